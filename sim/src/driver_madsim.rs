//! The cluster of record: the same world under madsim. Each simulated node is a madsim node with a task of its own that
//! sleeps until the node's next happening; a kill kills the task, a pause pauses it.
//!
//! madsim's timers tick in milliseconds and its scheduler picks a random task among those that are ready, so the order
//! of things differs from the plain loop's; the verdict must not.

use crate::clock::At;
use crate::world::{Due, Effect, Happening, Place, World};
use madsim::Config;
use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId;
use madsim::time::TimeHandle;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<(At, u64), (Place, Happening)>,
    waker: Option<Waker>,
}

struct Shared {
    /// Taken out at the end: madsim's tasks may outlive the run.
    world: Option<World>,
    queues: BTreeMap<Place, Queue>,
    /// The madsim node of each of the world's nodes.
    tasks: BTreeMap<usize, NodeId>,
    number: u64,
    finished: Option<Waker>,
}

impl Shared {
    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("the run is not over")
    }

    fn over(&self) -> bool {
        self.world.as_ref().is_none_or(World::over)
    }

    /// Puts what the world wants to happen where it will happen.
    fn distribute(&mut self) -> Vec<Effect> {
        let due: Vec<Due> = self.world().take_due().collect();
        for Due { at, place, what } in due {
            self.number += 1;
            let key = (at, self.number);
            self.put(key, place, what);
        }
        if self.over() {
            self.finished.take().into_iter().for_each(Waker::wake);
        }
        self.world().take_effects()
    }

    /// What is meant for a node without a process is the director's to deal with: nobody else is awake.
    fn put(&mut self, key: (At, u64), place: Place, what: Happening) {
        let awake = !matches!(place, Place::Node(node) if !self.world().runs(node));
        let queue = self.queues.entry(if awake { place } else { Place::Director }).or_default();
        queue.waiting.insert(key, (place, what));
        queue.waker.take().into_iter().for_each(Waker::wake);
    }

    /// A node's process has begun or ended: what is meant for it changes hands.
    fn sort_again(&mut self, node: usize) {
        for place in [Place::Director, Place::Node(node)] {
            let waiting = std::mem::take(&mut self.queues.entry(place).or_default().waiting);
            for (key, (place, what)) in waiting {
                self.put(key, place, what);
            }
        }
    }
}

type Cluster = Arc<Mutex<Shared>>;

fn lock(cluster: &Cluster) -> MutexGuard<'_, Shared> {
    cluster.lock().expect("one thread only, and a panic ends the run")
}

fn now() -> At {
    At(TimeHandle::current().elapsed().as_nanos() as u64)
}

/// Lets happen what happens at one place, for ever.
async fn live(cluster: Cluster, place: Place) {
    loop {
        let due = lock(&cluster).queues.entry(place).or_default().waiting.first_key_value().map(|(key, _)| key.0);
        let wait = due.map_or(Duration::from_secs(3600), |at| Duration::from_nanos(at.0.saturating_sub(now().0)));
        if !wait.is_zero() {
            // Until it is due, or something earlier comes in.
            let mut sleep = pin!(madsim::time::sleep(wait));
            poll_fn(|cx| {
                let mut shared = lock(&cluster);
                let queue = shared.queues.entry(place).or_default();
                let changed = queue.waiting.first_key_value().map(|(key, _)| key.0) != due;
                queue.waker = Some(cx.waker().clone());
                drop(shared);
                if changed { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }
            })
            .await;
            continue;
        }
        let effects = {
            let mut shared = lock(&cluster);
            let queue = shared.queues.entry(place).or_default();
            let (_, (_, what)) = queue.waiting.pop_first().expect("the first one is due");
            if shared.over() {
                return;
            }
            shared.world().handle(now(), what);
            shared.distribute()
        };
        carry_out(&cluster, effects);
    }
}

/// Starts, kills and pauses tasks as the world's processes are.
fn carry_out(cluster: &Cluster, effects: Vec<Effect>) {
    let handle = Handle::current();
    for effect in effects {
        if let Effect::Started(node) | Effect::Ended(node) = effect {
            lock(cluster).sort_again(node);
        }
        let (Effect::Started(node) | Effect::Ended(node) | Effect::Paused(node) | Effect::Resumed(node)) = effect;
        let task = lock(cluster).tasks.get(&node).copied();
        match (effect, task) {
            (Effect::Started(_), None) => {
                let inner = cluster.clone();
                let init = move || live(inner.clone(), Place::Node(node));
                let task = handle.create_node().name(format!("node{node}")).init(init).build();
                lock(cluster).tasks.insert(node, task.id());
            }
            // A restart without a kill would leave the old task's resources bound; `Ended` has killed it.
            (Effect::Started(_), Some(task)) => handle.restart(task),
            (Effect::Ended(_), Some(task)) => {
                handle.resume(task);
                handle.kill(task);
            }
            (Effect::Paused(_), Some(task)) => handle.pause(task),
            (Effect::Resumed(_), Some(task)) => handle.resume(task),
            (_, None) => unreachable!("a process that ends or is paused has been started"),
        }
    }
}

/// Drives the world until it says that it is over; hands it back. `seed` is madsim's own (who runs first).
pub fn drive(world: World, seed: u64) -> World {
    let cluster: Cluster = Arc::new(Mutex::new(Shared {
        world: Some(world),
        queues: BTreeMap::new(),
        tasks: BTreeMap::new(),
        number: 0,
        finished: None,
    }));
    let runtime = Runtime::with_seed_and_config(seed, Config::default());
    let inner = cluster.clone();
    runtime.block_on(async move {
        let places = lock(&inner).world().places_outside();
        let effects = lock(&inner).distribute();
        carry_out(&inner, effects);
        for place in places {
            let node = Handle::current().create_node().name(format!("{place:?}")).build();
            node.spawn(live(inner.clone(), place));
        }
        poll_fn(|cx| {
            let mut shared = lock(&inner);
            shared.finished = Some(cx.waker().clone());
            if shared.over() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    });
    let mut shared = lock(&cluster);
    // Wakers hold tasks, and tasks hold the cluster.
    shared.queues.clear();
    shared.finished = None;
    shared.world.take().expect("the run has just ended")
}
