//! Clients of a host: they ask for changes and read, and note what they were told.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;
use troupe_cluster::consensus::{Consensus, Reshape};
use troupe_cluster::{Handle, ProposeError};
use troupe_proto::command::{Change, Command, Note, Reply};
use troupe_proto::id::{AdminTokenId, JoinTokenId, KeyId, NodeId, Revision};
use troupe_proto::spec::Key;
use troupe_proto::token::{AdminToken, Role};

use super::history::{Ask, SLOTS, Told, View, hash_of, slot_name};
use super::plan::{Plant, name};
use super::world::{Phase, Running, Wish, World, reason};

/// Asks until the run settles, then shows that the host works, if `who` is the first client.
pub async fn work(world: Arc<World>, host: usize, who: usize, running: Running, mut rng: Rng) {
    loop {
        sleep(Duration::from_micros(rng.u64(500..220_000))).await;
        let phase = world.lock().phase;
        match phase {
            Phase::Form => {}
            Phase::Work => {
                let ask = draw(&world, host, &running, &mut rng);
                call(&world, host, &running.handle, ask).await;
            }
            Phase::Settle => break,
        }
    }
    if who == 0 {
        settle(&world, host, &running).await;
    }
}

fn draw(world: &World, host: usize, running: &Running, rng: &mut Rng) -> Ask {
    let slot = rng.usize(0..SLOTS);
    let state = running.handle.state();
    let base = state.revision().0;
    let mut inner = world.lock();
    match rng.u8(0..100) {
        0..22 => Ask::PutKey { slot, value: inner.value(), base },
        22..30 => Ask::RemoveKey { slot, base },
        30..50 => Ask::PutToken { slot, value: inner.value() },
        50..55 => Ask::RemoveToken { slot },
        55..62 => Ask::Issue { slot, value: inner.value() },
        62..75 => {
            let known = state.join_tokens().get(slot_name(slot).as_str());
            match known.and_then(|token| inner.values.get(&token.hash).copied()) {
                // Every host claims under its own name, more than once.
                Some(value) => Ask::Claim { slot, value, by: u64::try_from(host).unwrap_or(0) },
                None => Ask::Read,
            }
        }
        _ => Ask::Read,
    }
}

/// Makes one call and notes what it came to.
async fn call(world: &Arc<World>, host: usize, handle: &Handle, ask: Ask) -> Told {
    let id = world.lock().begin(host, ask);
    let told = match command(ask) {
        None => match handle.read_index().await {
            Ok(()) => Told::Seen(Box::new(View::of(&handle.state(), &world.lock().values))),
            Err(_) => Told::Unknown,
        },
        Some(command) => {
            let note = Note { actor: name(host), reason: reason(id), at: world.wall_ms(host), idempotency: None };
            propose(world, handle, &note, &command).await
        }
    };
    world.lock().end(id, told.clone());
    told
}

async fn propose(world: &Arc<World>, handle: &Handle, note: &Note, command: &Command) -> Told {
    let mut tries = 0;
    loop {
        tries += 1;
        let told = match handle.propose(note.clone(), command.clone()).await {
            Ok(reply) => told(world, &reply),
            Err(ProposeError::NoLeader) => Told::Never,
            Err(ProposeError::Unknown | ProposeError::Stopped) => Told::Unknown,
            Err(error @ (ProposeError::Unencodable(_) | ProposeError::Unreadable(_) | ProposeError::Unsealed)) => {
                world.lock().record.breach(format_args!("a proposal failed: {error}"));
                Told::Unknown
            }
        };
        // The planted bug: whoever does not know asks again, under a fresh number.
        if told != Told::Unknown || world.plant != Plant::LostDedup || tries > 3 {
            return told;
        }
    }
}

fn told(world: &Arc<World>, reply: &Reply) -> Told {
    Told::of(reply).unwrap_or_else(|reply| {
        world.lock().record.breach(format_args!("an unexpected reply: {reply}"));
        Told::Unknown
    })
}

/// What is proposed for it; `None` for a read.
fn command(ask: Ask) -> Option<Command> {
    let change = |base: u64, change: Change| Some(Command::Change { base: Revision(base), changes: vec![change] });
    match ask {
        Ask::PutKey { slot, value, base } => {
            let key = Key {
                hash: hash_of(value),
                models: None,
                expires: None,
                metadata: std::collections::BTreeMap::new(),
                pin: false,
            };
            change(base, Change::PutKey(KeyId::new(&slot_name(slot)), key))
        }
        Ask::RemoveKey { slot, base } => change(base, Change::RemoveKey(KeyId::new(&slot_name(slot)))),
        Ask::PutToken { slot, value } => {
            let token = AdminToken { hash: hash_of(value), role: Role::Viewer, expires: None };
            Some(Command::PutAdminToken(AdminTokenId::new(&slot_name(slot)), token))
        }
        Ask::RemoveToken { slot } => Some(Command::RemoveAdminToken(AdminTokenId::new(&slot_name(slot)))),
        Ask::Issue { slot, value } => {
            let id = JoinTokenId::new(&slot_name(slot));
            Some(Command::PutJoinToken { id, hash: hash_of(value), expires: i64::MAX })
        }
        Ask::Claim { slot: _, value, by } => {
            Some(Command::UseJoinToken { hash: hash_of(value), node: NodeId(by), at: 0 })
        }
        Ask::Read => None,
    }
}

/// Everything is mended: a write and a read must go through at this host.
async fn settle(world: &Arc<World>, host: usize, running: &Running) {
    loop {
        let value = world.lock().value();
        if let Told::Applied(_) = call(world, host, &running.handle, Ask::PutToken { slot: 0, value }).await {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    while !matches!(call(world, host, &running.handle, Ask::Read).await, Told::Seen(_)) {
        sleep(Duration::from_millis(200)).await;
    }
    let mut inner = world.lock();
    inner.hosts[host].is_settled = true;
    inner.record.tell(format_args!("{} works", name(host)));
}

/// Does what an operator has to do: grants wishes, and has lost nodes replaced.
pub async fn operate(world: Arc<World>, host: usize, running: Running, mut rng: Rng) {
    loop {
        sleep(Duration::from_millis(rng.u64(50..400))).await;
        let (wish, repair) = {
            let mut inner = world.lock();
            (inner.hosts[host].wish.take(), inner.repair.clone())
        };
        match wish {
            Some(Wish::Lead) => {
                let me = running.handle.process().node;
                let result = running.handle.reshape(Reshape::TransferLeader(me)).await;
                world.lock().record.tell(format_args!("{} asked to lead: {result:?}", name(host)));
            }
            Some(Wish::Snapshot) => {
                let is_asked = running.raft.snapshot().await;
                world.lock().record.step(format_args!("{} writes a snapshot: {is_asked}", name(host)));
            }
            None => {}
        }
        let Some(repair) = repair else { continue };
        let step = match repair.done {
            0 => running.raft.reshape(Reshape::AddLearner { node: repair.new, peer: repair.peer.clone() }).await,
            1 if repair.has_vote => running.raft.reshape(Reshape::Replace { old: repair.old, new: repair.new }).await,
            1 | 2 => running.raft.reshape(Reshape::Remove(repair.old)).await,
            _ => {
                let note = Note { actor: name(host), reason: "repair".to_owned(), ..Note::default() };
                let removed = running.handle.propose(note, Command::RemoveMember(repair.old)).await;
                let mut inner = world.lock();
                inner.record.tell(format_args!("{} takes {} out: {removed:?}", name(host), repair.old));
                let is_over = matches!(removed, Ok(Reply::Applied(_)));
                inner.repair.take_if(|current| is_over && *current == repair);
                continue;
            }
        };
        let mut inner = world.lock();
        inner.record.tell(format_args!("{} replaces {}, step {}: {step:?}", name(host), repair.old, repair.done));
        // Another host may have been as fast, and the next repair may have begun meanwhile.
        if let Some(current) = inner.repair.as_mut().filter(|current| step.is_ok() && **current == repair) {
            current.done += 1;
        }
    }
}
