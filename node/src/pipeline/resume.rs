//! Carries a stream that broke on at another target, from the text its client has read.
//!
//! Only where the model's spec says so. The client reads one stream; a comment marks the seam. What cannot be joined
//! without a gap or a word twice is not joined: the client is told of the break, as without this.

use bytes::{Bytes, BytesMut};
use troupe_dialect::Operation;
use troupe_dialect::resume::{Heard, Stitch, seam_comment};
use troupe_proto::failure::Fault;

use super::Routed;
use super::attempt::{Opened, Served};
use super::refusal::Refusal;
use super::source::{Batch, Source};
use super::visit::Visit;
use crate::clock;

/// Seams of one stream; a provider that breaks off more often than this is not to be helped.
const SEAMS_MAX: u32 = 5;

/// What it takes to go on with a stream.
pub(super) struct Resume {
    routed: Box<Routed>,
    voice: Voice,
    seams: u32,
}

/// What the client has read, and how the leg at hand reaches it.
enum Voice {
    /// The first leg goes out as it comes.
    Heard(Heard),
    /// A later one is made the rest of what went before.
    Stitched(Stitch),
    /// The stream is over, or cannot be continued any more.
    Silent,
}

/// A further leg of a stream.
pub(super) struct Leg {
    pub(super) source: Box<Source>,
    pub(super) begun: Batch,
    pub(super) served: Served,
    /// The comment that goes out in front of it.
    pub(super) seam: Bytes,
}

impl Resume {
    pub(super) fn new(routed: Box<Routed>) -> Self {
        let voice = Voice::Heard(Heard::new(routed.call.operation));
        Self { routed, voice, seams: 0 }
    }

    /// Takes in what is about to be sent, and makes a further leg's events the rest of the stream.
    ///
    /// # Errors
    /// Why the leg does not continue the stream; what came before that is in the batch.
    pub(super) fn pass(&mut self, batch: &mut Batch) -> Result<(), String> {
        match &mut self.voice {
            Voice::Heard(heard) => heard.observe_bytes(&batch.bytes),
            Voice::Stitched(stitch) => {
                let mut out = BytesMut::with_capacity(batch.bytes.len());
                let stitched = stitch.batch(&batch.bytes, &mut out);
                batch.bytes = out.freeze();
                stitched.map_err(|error| error.to_string())?;
            }
            Voice::Silent => {}
        }
        Ok(())
    }

    /// How often the stream was continued.
    pub(super) const fn seams(&self) -> u32 {
        self.seams
    }

    /// Finds a target that goes on. `broke` is how the leg before ended, which `before` served; the visit knows of it.
    ///
    /// # Errors
    /// Why it does not go on, for the log.
    pub(super) async fn go_on(
        &mut self,
        broke: &Refusal,
        before: &Served,
        visit: &mut Visit,
    ) -> Result<Leg, &'static str> {
        match broke.fault {
            Some(Fault::Client | Fault::Ours | Fault::ContextLength) => return Err("another target would do the same"),
            Some(Fault::Credential | Fault::Quota | Fault::Capacity | Fault::Provider) | None => {}
        }
        if self.seams >= SEAMS_MAX {
            return Err("it broke too often");
        }
        let heard = match std::mem::replace(&mut self.voice, Voice::Silent) {
            Voice::Heard(heard) => heard,
            Voice::Stitched(stitch) => stitch.into_heard(),
            Voice::Silent => return Err("it was not listened to"),
        };
        heard.can_resume().map_err(|reason| reason.as_str())?;
        let now = clock::now();
        if now >= self.routed.total {
            return Err("its time is over");
        }
        if !self.routed.plan.pool().cell.retries.try_take(now) {
            return Err("the retry budget is spent");
        }
        self.routed.broke(before, broke);
        self.routed.heard = Some(heard);
        let walked = self.routed.walk_behind(before, visit).await;
        let heard = self.routed.heard.take().ok_or("it was not listened to")?;
        let (opened, served) = walked.map_err(|_| "no other target serves")?;
        let Opened::Stream { source, begun, .. } = opened else { return Err("something else than a stream came") };
        let Some(join) = served.join else { return Err("it was asked for anew") };
        let (from, to) = (before.target(), served.target());
        let seam = seam_comment(&from.to_string(), &to.to_string());
        self.voice = Voice::Stitched(Stitch::new(heard, join));
        self.seams += 1;
        tracing::info!(%from, %to, join = join.as_str(), "a broken stream goes on elsewhere");
        Ok(Leg { source, begun, served, seam })
    }
}

/// Whether streams of this operation can be continued at all.
pub(super) const fn is_resumable(operation: Operation) -> bool {
    match operation {
        Operation::Chat | Operation::Completions | Operation::Messages => true,
        Operation::Responses | Operation::Embeddings | Operation::CountTokens => false,
    }
}
