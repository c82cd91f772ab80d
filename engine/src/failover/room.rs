//! Whether this server's storage has room, by what it did with the latest writes.
//!
//! A server is short of room while more was refused for lack of it than was written since. So a leader that is full and
//! hands over is no candidate again as soon as one small entry fits, but when it has taken as many as it had to refuse.

/// Refused writes that count: a server that has room again shows it after so many entries at the latest.
const REFUSED_MAX: u64 = 1000;

#[derive(Clone, Copy, Debug, Default, Hash)]
pub(super) struct Room {
    refused: u64,
    /// As the agency was told last.
    told: bool,
}

impl Room {
    pub fn is_short(&self) -> bool {
        self.refused > 0
    }

    /// A client's write, or an entry of this server's own, was refused.
    pub fn refused(&mut self) {
        self.refused = (self.refused + 1).min(REFUSED_MAX);
    }

    /// What will be tried again and again was refused: it counts once.
    pub fn refused_again(&mut self) {
        self.refused = self.refused.max(1);
    }

    pub fn written(&mut self, entries: u64) {
        self.refused = self.refused.saturating_sub(entries);
    }

    /// What goes into a beat.
    pub fn tell(&mut self) -> bool {
        self.told = self.is_short();
        self.told
    }

    /// The agency has been told otherwise.
    pub fn is_news(&self) -> bool {
        self.is_short() && !self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_there_again_when_as_much_was_written_as_was_refused() {
        let mut room = Room::default();
        assert!(!room.is_short() && !room.is_news());
        (0..3).for_each(|_| room.refused());
        assert!(room.is_short() && room.is_news());
        assert!(room.tell() && !room.is_news());
        room.written(2);
        assert!(room.is_short());
        room.written(1);
        assert!(!room.is_short() && !room.is_news() && !room.tell());
        (0..3).for_each(|_| room.refused_again());
        assert!(room.is_news());
        room.written(1);
        assert!(!room.is_short());
        (0..REFUSED_MAX + 5).for_each(|_| room.refused());
        room.written(REFUSED_MAX);
        assert!(!room.is_short(), "not for ever");
    }
}
