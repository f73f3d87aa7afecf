//! Simulated sockets for the cluster's transport.

use std::io;
use std::net::SocketAddr;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use troupe_cluster::transport::{Accept, BoxedIo, Net};
use turmoil::net::{TcpListener, TcpStream};

/// The network of the turmoil simulation that it is used in. Addresses are `host:port`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimNet;

struct Listener(TcpListener);

impl Net for SimNet {
    fn dial(&self, address: &str) -> BoxFuture<'_, io::Result<BoxedIo>> {
        let address = address.to_owned();
        async move { Ok(Box::new(TcpStream::connect(address).await?) as BoxedIo) }.boxed()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Accept>>> {
        async move { Ok(Box::new(Listener(TcpListener::bind(address).await?)) as Box<dyn Accept>) }.boxed()
    }
}

impl Accept for Listener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedIo, SocketAddr)>> {
        async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxedIo, from))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use troupe_cluster::transport::{
        Caller, Class, Introduction, Links, Listening, Parts, Service, Settings, Transport,
    };
    use troupe_proto::id::{ClusterId, NodeId};

    use super::*;

    struct Echo;

    impl Service for Echo {
        fn serve(&self, _from: Caller, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
            async move { body }.boxed()
        }
    }

    /// What the first call may take. The other host may not listen yet, and a message may be under way for a tenth of a second.
    const START: Duration = Duration::from_secs(5);

    fn transport(node: u64) -> Transport {
        Transport::new(Parts {
            net: Arc::new(SimNet),
            tls: None,
            settings: Settings::default(),
            introduction: Introduction {
                cluster: Some(ClusterId(1)),
                node: NodeId(node),
                incarnation: 1,
                peer: format!("host-{node}:1"),
                seal_keys: vec![],
            },
            dice: Arc::new(|| 0),
        })
    }

    async fn listen(transport: &Transport) -> Listening {
        transport.listen((std::net::Ipv4Addr::UNSPECIFIED, 1).into(), Arc::new(Echo)).await.unwrap()
    }

    async fn call(from: &Transport) -> bool {
        let within = Duration::from_millis(200);
        from.call(NodeId(2), "host-2:1", Class::Append, b"x".to_vec(), within).await.is_ok()
    }

    async fn until_answered(from: &Transport, within: Duration) {
        let answered = async {
            while !call(from).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(within, answered).await.expect("calls are answered again");
    }

    #[test]
    fn calls_come_back_soon_after_a_partition_of_both_ways_or_one() {
        let mut sim = turmoil::Builder::new().rng_seed(1).simulation_duration(Duration::from_secs(60)).build();
        sim.host("host-2", || async {
            let _listening = listen(&transport(2)).await;
            std::future::pending().await
        });
        sim.client("host-1", async {
            let a = transport(1);
            until_answered(&a, START).await;

            turmoil::partition("host-1", "host-2");
            assert!(!call(&a).await);
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(!call(&a).await);
            turmoil::repair("host-1", "host-2");
            until_answered(&a, Duration::from_secs(3)).await;

            // Our words arrive, the answers do not.
            turmoil::partition_oneway("host-2", "host-1");
            assert!(!call(&a).await);
            tokio::time::sleep(Duration::from_secs(5)).await;
            turmoil::repair_oneway("host-2", "host-1");
            until_answered(&a, Duration::from_secs(4)).await;

            let counts = a.counts();
            let link = &counts.links[&(NodeId(2), Class::Append)];
            assert!(link.is_connected && link.failed >= 3 && link.answered >= 3, "{counts:?}");
            Ok(())
        });

        sim.run().unwrap();
    }

    #[test]
    fn calls_come_back_soon_after_a_crash() {
        let mut sim = turmoil::Builder::new().rng_seed(1).simulation_duration(Duration::from_secs(60)).build();
        sim.host("host-2", || async {
            let _listening = listen(&transport(2)).await;
            std::future::pending().await
        });
        let (down, is_down) = tokio::sync::watch::channel(false);
        sim.client("host-1", async move {
            let mut is_down = is_down;
            let a = transport(1);
            until_answered(&a, START).await;
            is_down.wait_for(|is_down| *is_down).await.unwrap();
            assert!(!call(&a).await);
            is_down.wait_for(|is_down| !*is_down).await.unwrap();
            until_answered(&a, Duration::from_secs(3)).await;
            Ok(())
        });

        for _ in 0..200 {
            assert!(!sim.step().unwrap());
        }
        sim.crash("host-2");
        down.send(true).unwrap();
        for _ in 0..2_000 {
            assert!(!sim.step().unwrap());
        }
        sim.bounce("host-2");
        down.send(false).unwrap();

        sim.run().unwrap();
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let run = || {
            let mut sim = turmoil::Builder::new().rng_seed(7).fail_rate(0.0).build();
            sim.host("host-2", || async {
                let _listening = listen(&transport(2)).await;
                std::future::pending().await
            });
            let counts = Arc::new(std::sync::Mutex::new(String::new()));
            let out = Arc::clone(&counts);
            sim.client("host-1", async move {
                let a = transport(1);
                for _ in 0..50 {
                    call(&a).await;
                }
                *out.lock().unwrap() = format!("{:?}", a.counts());
                Ok(())
            });
            sim.run().unwrap();
            counts.lock().unwrap().clone()
        };

        let first = run();

        assert!(first.contains("answered: 50") || first.contains("answered: 49"), "{first}");
        assert_eq!(first, run());
    }
}
