//! The fields by which a browser knows whether a page of another origin may read an answer.

use http::header::{ORIGIN, VARY};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use crate::auth::cors::{Cors, EXPOSED, MANAGED, Sharing};

/// Puts them on the answer to a request, in place of the platform's.
pub(super) fn share(response: &mut ResponseHeader, request: &RequestHeader, cors: &Cors) -> Result<()> {
    let origins = request.headers.get_all(ORIGIN).iter().map(http::HeaderValue::as_bytes);
    let sharing = cors.sharing(origins);
    if sharing == Sharing::Off {
        return Ok(());
    }
    for name in MANAGED {
        response.remove_header(name);
    }
    // On the answers to others too: a cache must not give one to a page that it is not for.
    if !varies_by_origin(response) {
        response.append_header("Vary", "Origin")?;
    }
    if let Sharing::Allowed(origin) = sharing {
        response.insert_header("Access-Control-Allow-Origin", origin)?;
        response.insert_header("Access-Control-Expose-Headers", EXPOSED)?;
    }
    Ok(())
}

fn varies_by_origin(response: &ResponseHeader) -> bool {
    let values = response.headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let mut names = values.flat_map(|value| value.split(','));
    names.any(|name| name.trim().eq_ignore_ascii_case("origin"))
}
