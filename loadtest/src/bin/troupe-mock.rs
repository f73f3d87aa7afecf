//! A mock provider for tests and load: both wires, faults by model name.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use troupe_loadtest::mock::{Mock, MockOptions, MockTls};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Speaks OpenAI's and Anthropic's wires over HTTP/1.1 and h2c; knobs in the model name choose replies and faults.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// Certificate chain (PEM) for TLS.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Private key (PEM) for TLS.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let tls = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => Some(MockTls {
            cert_pem: std::fs::read_to_string(cert).with_context(|| format!("cannot read {}", cert.display()))?,
            key_pem: std::fs::read_to_string(key).with_context(|| format!("cannot read {}", key.display()))?,
            alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        }),
        _ => None,
    };
    let mock = Mock::start(MockOptions { listen: args.listen, tls })
        .with_context(|| format!("cannot serve on {}", args.listen))?;
    writeln!(std::io::stdout().lock(), "listening on {}", mock.base_url)?;
    mock.wait();
    Ok(())
}
