//! chitchat's messages as bytes. Its own UDP socket is the only thing outside of it that can write and read them, so one of
//! those talks to a socket of ours over the loopback, and what passes between them is what there is to seal.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chitchat::transport::{Socket as _, UdpSocket as ChatSocket};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::datagram::MESSAGE_MAX;

/// What the loopback may take; a datagram is in the other socket's queue as soon as it is sent.
const LOOPBACK_MAX: Duration = Duration::from_secs(1);

/// Writes and reads messages.
pub(super) struct Codec {
    chat: ChatSocket,
    /// Connected to `chat`, so that it hears nobody else.
    raw: UdpSocket,
    raw_address: SocketAddr,
    buffer: Vec<u8>,
    /// The one message that nodes never need to send: it marks the end of another.
    mark: Vec<u8>,
}

impl Codec {
    pub(super) async fn open() -> io::Result<Self> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let chat = ChatSocket::open(loopback).await.map_err(io::Error::other)?;
        let raw = UdpSocket::bind(loopback).await?;
        raw.connect(chat.local_addr().map_err(io::Error::other)?).await?;
        let raw_address = raw.local_addr()?;
        let buffer = vec![0; MESSAGE_MAX];
        let mut codec = Self { chat, raw, raw_address, buffer, mark: Vec::new() };
        let mark = ChitchatEnvelope { version: ProtocolVersion::V0, message: ChitchatMessage::BadCluster };
        codec.mark = codec.encode(mark).await?;
        Ok(codec)
    }

    /// A message as bytes. After an error the codec is of no more use: what was late would be taken for the next one.
    pub(super) async fn encode(&mut self, envelope: ChitchatEnvelope) -> io::Result<Vec<u8>> {
        self.chat.send(self.raw_address, envelope).await.map_err(io::Error::other)?;
        let length = timeout(LOOPBACK_MAX, self.raw.recv(&mut self.buffer)).await??;
        Ok(self.buffer.get(..length).unwrap_or_default().to_vec())
    }

    /// The message that bytes are; `None` for those that are none. Errors are as for [`Self::encode`].
    pub(super) async fn decode(&mut self, bytes: &[u8]) -> io::Result<Option<ChitchatEnvelope>> {
        if bytes.is_empty() || bytes.len() > MESSAGE_MAX || bytes == self.mark {
            return Ok(None);
        }
        self.raw.send(bytes).await?;
        // chitchat passes over what it cannot read without a word; the mark behind it says so.
        self.raw.send(&self.mark).await?;
        let mut found = None;
        loop {
            let heard = timeout(LOOPBACK_MAX, self.chat.recv()).await?.map_err(io::Error::other)?;
            // Anybody on this machine can send to the port.
            if heard.from_addr != self.raw_address {
                continue;
            }
            match heard.envelope.message {
                ChitchatMessage::BadCluster => return Ok(found),
                _ => found = Some(heard.envelope),
            }
        }
    }

    #[cfg(test)]
    fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.raw_address, self.chat.local_addr().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question of a node that knows nobody: magic, version, kind, an empty digest, and its cluster's name.
    fn syn(codec: &Codec, cluster: &str) -> Vec<u8> {
        let mut bytes = codec.mark.clone();
        *bytes.last_mut().unwrap() = 0;
        bytes.extend([0, 0]);
        bytes.extend(u16::try_from(cluster.len()).unwrap().to_le_bytes());
        bytes.extend(cluster.as_bytes());
        bytes
    }

    fn cluster_of(envelope: Option<ChitchatEnvelope>) -> Option<String> {
        match envelope?.message {
            ChitchatMessage::Syn { cluster_id, .. } => Some(cluster_id),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn messages_come_back_as_they_were() {
        let (mut ours, mut theirs) = (Codec::open().await.unwrap(), Codec::open().await.unwrap());
        let bytes = syn(&ours, "one");

        let envelope = theirs.decode(&bytes).await.unwrap().unwrap();

        assert_eq!(ours.encode(envelope).await.unwrap(), bytes);
    }

    #[tokio::test]
    async fn what_is_no_message_is_none_and_stands_in_the_way_of_nothing() {
        let mut codec = Codec::open().await.unwrap();
        let (mark, good) = (codec.mark.clone(), syn(&codec, "one"));

        for bad in
            [b"".as_slice(), b"junk", &mark, &good[..good.len() - 1], &[0xff; MESSAGE_MAX], &[0; MESSAGE_MAX + 1]]
        {
            assert_eq!(codec.decode(bad).await.unwrap(), None);
        }
        assert_eq!(cluster_of(codec.decode(&good).await.unwrap()).unwrap(), "one");
    }

    #[tokio::test]
    async fn nobody_else_on_the_machine_is_heard() {
        let mut codec = Codec::open().await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (raw, chat) = codec.addresses();
        let lie = syn(&codec, "a lie");
        for address in [raw, chat] {
            stranger.send_to(&lie, address).await.unwrap();
        }

        let decoded = codec.decode(&syn(&codec, "the truth")).await.unwrap();

        assert_eq!(cluster_of(decoded).unwrap(), "the truth");
        let envelope = codec.decode(&syn(&codec, "ours")).await.unwrap().unwrap();
        assert_eq!(codec.encode(envelope).await.unwrap(), syn(&codec, "ours"));
    }
}
