//! A response body that follows a script.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Sleep;

use super::counts::Watch;
use super::faults::Step;

/// Walks the steps of one reply. Dropping it early is how a client's leaving is noticed.
#[derive(Debug)]
pub(super) struct Scripted {
    steps: VecDeque<Step>,
    wait: Option<Pin<Box<Sleep>>>,
    watch: Option<Watch>,
}

impl Scripted {
    pub(super) fn new(steps: Vec<Step>, mut watch: Option<Watch>) -> Self {
        if let (true, Some(watch)) = (steps.is_empty(), &mut watch) {
            watch.over();
        }
        Self { steps: steps.into(), wait: None, watch }
    }

    fn over(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.over();
        }
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        loop {
            if let Some(wait) = &mut this.wait {
                if wait.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.wait = None;
            }
            match this.steps.pop_front() {
                None => {
                    this.over();
                    return Poll::Ready(None);
                }
                Some(Step::Send(bytes, events)) => {
                    if let Some(watch) = &mut this.watch {
                        watch.sent(events);
                    }
                    // With a known length nobody polls once more for the end.
                    if this.steps.is_empty() {
                        this.over();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Wait(gap)) => this.wait = Some(Box::pin(tokio::time::sleep(gap))),
                Some(Step::Flush) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Hang) => {
                    // Put back, so that a later poll hangs as well; nothing will wake us but the connection.
                    this.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
                Some(Step::Break) => {
                    this.over();
                    return Poll::Ready(Some(Err(io::Error::other("the script breaks the reply off here"))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.wait.is_none()
    }
}
