//! The open loop: requests leave at their time, whatever became of the ones before.
//!
//! Latency counts from the time a request was *due*, so a server that stalls is
//! charged for every request that had to wait behind the stall, in our queue or
//! in its own. Requests wait for a free connection in a bounded backlog; what
//! finds no room there is not sent and counts as an error.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Line, Requests};
use super::pacer::Pacer;
use super::record::Shared;
use super::schedule::Schedule;
use crate::clock;

/// How an open loop is driven.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    /// Connections, each with one request at a time.
    pub connections: u32,
    /// Requests that may wait for a connection.
    pub backlog: u32,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    number: u64,
    due: Instant,
}

/// Who is free, and what waits. One of the two is always empty.
#[derive(Debug, Default)]
struct Desk {
    idle: VecDeque<usize>,
    waiting: VecDeque<Job>,
}

type SharedDesk = Arc<Mutex<Desk>>;

fn lock(desk: &SharedDesk) -> std::sync::MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections of an open loop, opened before it begins so that the first requests are not charged for them.
pub struct Crew {
    desk: SharedDesk,
    hands: Vec<mpsc::Sender<Job>>,
    workers: JoinSet<()>,
    requests: Arc<Requests>,
    backlog: usize,
}

impl Crew {
    /// Opens all connections.
    pub async fn gather(requests: Arc<Requests>, open: Open, record: &Shared) -> Self {
        let desk = SharedDesk::default();
        let mut opening = JoinSet::new();
        for _ in 0..open.connections {
            let requests = Arc::clone(&requests);
            opening.spawn(async move {
                let mut line = Line::default();
                line.warm(&requests).await;
                line
            });
        }
        let lines = opening.join_all().await;
        let (mut hands, mut workers) = (Vec::new(), JoinSet::new());
        for (index, line) in lines.into_iter().enumerate() {
            let (hand, jobs) = mpsc::channel(1);
            hands.push(hand);
            lock(&desk).idle.push_back(index);
            let worker = Worker {
                index,
                line,
                jobs,
                desk: Arc::clone(&desk),
                requests: Arc::clone(&requests),
                record: record.clone(),
            };
            workers.spawn(worker.run());
        }
        let backlog = usize::try_from(open.backlog).unwrap_or(usize::MAX);
        Self { desk, hands, workers, requests, backlog }
    }

    /// Sends everything that the schedule holds, and waits until all of it has ended.
    ///
    /// # Errors
    /// The timer broke.
    pub async fn drive(mut self, schedule: Schedule, record: &Shared) -> io::Result<()> {
        let pacer = Pacer::new()?;
        let mut last = clock::now();
        let mut number = 0;
        while let Some(due) = schedule.due(number) {
            pacer.until(due).await?;
            self.hand_out(Job { number, due }, record);
            (number, last) = (number + 1, due);
            // A burst of overdue requests must not keep the replies of others unread.
            if number % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.hands.clear();
        // Every exchange ends within its timeout from the time it was due, so this wait is over by then.
        let end = last + self.requests.timeout() + Duration::from_secs(1);
        let all = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout_at(end.into(), all).await.is_err() {
            let mut record = record.lock();
            for _ in record.settled..schedule.requests {
                record.bad(last, "not over when the run was".to_owned(), None);
            }
        }
        Ok(())
    }

    fn hand_out(&self, job: Job, record: &Shared) {
        let mut desk = lock(&self.desk);
        let Some(index) = desk.idle.pop_front() else {
            if desk.waiting.len() < self.backlog {
                desk.waiting.push_back(job);
            } else {
                record.lock().not_sent(job.due);
            }
            return;
        };
        // An idle worker has taken its last job, so its one place is free.
        let taken = self.hands.get(index).is_some_and(|hand| hand.try_send(job).is_ok());
        if !taken {
            record.lock().bad(job.due, "a worker of ours broke down".to_owned(), None);
        }
    }
}

struct Worker {
    index: usize,
    line: Line,
    jobs: mpsc::Receiver<Job>,
    desk: SharedDesk,
    requests: Arc<Requests>,
    record: Shared,
}

impl Worker {
    async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            let mut next = Some(job);
            while let Some(job) = next {
                self.work(job).await;
                let mut desk = lock(&self.desk);
                next = desk.waiting.pop_front();
                if next.is_none() {
                    desk.idle.push_back(self.index);
                }
            }
        }
    }

    async fn work(&mut self, job: Job) {
        let result = self.line.exchange(&self.requests, job.number, job.due).await;
        let mut record = self.record.lock();
        match result {
            Ok(reply) => record.good(job.due, &reply),
            Err(failed) => {
                let waited = failed.is_late.then(|| clock::now().saturating_duration_since(job.due));
                record.bad(job.due, failed.why, waited);
            }
        }
    }
}
