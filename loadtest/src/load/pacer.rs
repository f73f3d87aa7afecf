//! A timer that is exact to microseconds: tokio's own rounds up to a millisecond, which is more than a gateway adds.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;

use crate::clock;

/// One timer of the kernel, waited for like a socket.
#[derive(Debug)]
pub struct Pacer {
    timer: AsyncFd<OwnedFd>,
}

impl Pacer {
    /// Makes a timer on the running runtime.
    ///
    /// # Errors
    /// The kernel has none to give, or the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // The constructor is deprecated for types whose descriptor may change; its successor is unsafe.
        #[expect(deprecated, reason = "an OwnedFd has one descriptor all its life, so this use is sound")]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer })
    }

    /// Returns at `when`, at once when that has passed.
    ///
    /// # Errors
    /// The timer broke; never in practice.
    pub async fn until(&self, when: Instant) -> io::Result<()> {
        let left = when.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Ok(());
        }
        let seconds = i64::try_from(left.as_secs()).map_err(io::Error::other)?;
        let value = Timespec { tv_sec: seconds, tv_nsec: i64::from(left.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut ticks = [0_u8; 8];
            match rustix::io::read(self.timer.get_ref(), &mut ticks) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_never_fires_early_and_mostly_within_a_part_of_a_millisecond() {
        let pacer = Pacer::new().unwrap();
        let mut late = Vec::new();

        for _ in 0..50 {
            let due = clock::now() + Duration::from_micros(300);
            pacer.until(due).await.unwrap();
            late.push(clock::now().checked_duration_since(due).expect("it fired early"));
        }

        late.sort();
        // A busy machine delays some; a timer of whole milliseconds would delay half of them by this much.
        assert!(late[5] < Duration::from_micros(400), "{late:?}");
    }
}
