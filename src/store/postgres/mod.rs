//! The store in PostgreSQL.

#[cfg(test)]
pub(crate) mod test_server;
