//! The least any hyper gateway can cost.
//!
//! One current-thread runtime, HTTP/1.1 on both sides, bodies streamed through
//! unread, a LIFO pool of idle connections. It parses no body, checks no key and
//! sets no timer: whatever a real gateway costs above it is what its features cost.

mod pool;

use std::io;
use std::sync::Arc;

use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Either;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use pool::{Pool, Returning};

/// Serves until the task is dropped: every request goes to `upstream` as it came, but for `host`.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, upstream: Authority) -> io::Result<()> {
    let host = HeaderValue::from_str(upstream.as_str()).map_err(io::Error::other)?;
    let pool = Arc::new(Pool::new(upstream));
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (pool, host) = (Arc::clone(&pool), host.clone());
        let service = service_fn(move |request| forward(request, Arc::clone(&pool), host.clone()));
        // Copying small events into one buffer costs less than gathering them: measured, by a tenth.
        let connection = http1::Builder::new().writev(false).serve_connection(TokioIo::new(socket), service);
        // A connection that ends in an error has ended all the same.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn forward(
    mut request: Request<Incoming>,
    pool: Arc<Pool>,
    host: HeaderValue,
) -> Result<Response<Either<Returning, Empty<Bytes>>>, hyper::Error> {
    request.headers_mut().insert(header::HOST, host);
    let Ok(mut sender) = pool.take().await else {
        let mut refusal = Response::new(Either::Right(Empty::new()));
        *refusal.status_mut() = StatusCode::BAD_GATEWAY;
        return Ok(refusal);
    };
    // An error here drops the client's connection, as a reset upstream would have.
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Either::Left(Returning::new(body, sender, pool))))
}
