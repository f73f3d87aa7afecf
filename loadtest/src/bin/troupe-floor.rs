//! The least a gateway can cost: the yardstick of `troupe-load compare`.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Parser;
use http::Uri;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Passes HTTP/1.1 through to one upstream on one thread, reading nothing.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9200")]
    listen: SocketAddr,
    /// Where everything goes, `http://HOST:PORT`.
    #[arg(long)]
    upstream: Uri,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let upstream = args.upstream.authority().cloned().context("--upstream must be http://HOST:PORT")?;
    anyhow::ensure!(args.upstream.scheme_str() == Some("http"), "--upstream must be http://HOST:PORT");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        writeln!(std::io::stdout().lock(), "listening on http://{}", listener.local_addr()?)?;
        troupe_loadtest::floor::serve(listener, upstream).await.context("the listener broke")
    })
}
