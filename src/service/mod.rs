//! Use cases without the engine and without SQL: what `edge` and `cli` ask for.

pub mod login;
