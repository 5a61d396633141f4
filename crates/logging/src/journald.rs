//! Records for the systemd journal, by `tracing-journald`. Not here: when a record is kept, and its copy on standard error (`sink`).
//!
//! Entries have crun's PRIORITY, MESSAGE, ID and SYSLOG_IDENTIFIER (the program's name), and TARGET, which the package adds.

use crate::sink::Sink;
use runtime_core::api::{Level, Record};
use std::sync::{Mutex, PoisonError};
use tracing_core::callsite::{Callsite, Identifier};
use tracing_core::field::{FieldSet, Value};
use tracing_core::metadata::Kind;
use tracing_core::subscriber::Interest;
use tracing_core::{Event, Metadata, Subscriber};
use tracing_journald::{Layer, Priority, PriorityMappings};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// The journal, which is looked for when there is something to say: a command that logs nothing opens nothing.
pub(crate) struct Journal {
    /// The value of the field ID.
    id: Option<String>,
    open: Mutex<Option<Layered<Layer, Registry>>>,
}

impl Journal {
    /// Entries with this ID, or without.
    pub(crate) fn new(id: Option<String>) -> Self {
        Self { id, open: Mutex::new(None) }
    }
}

impl Sink for Journal {
    /// Writes an entry. Where there is no journal it is dropped, as by sd_journal_send(3), and the next one tries anew.
    ///
    /// The subscriber is called by itself and not as the dispatcher of the thread: the record may come out of an event, and inside one
    /// `tracing` drops others.
    fn put(&self, record: &Record<'_>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = connect(self.id.as_deref());
        }
        let Some(subscriber) = &*open else { return };
        let metadata = match record.level {
            Level::Error => &ERROR,
            Level::Warning => &WARNING,
            Level::Debug => &DEBUG,
        };
        let message: &dyn Value = &record.message;
        subscriber.event(&Event::new(metadata, &metadata.fields().value_set_all(&[Some(message)])));
    }
}

fn connect(id: Option<&str>) -> Option<Layered<Layer, Registry>> {
    let priorities = PriorityMappings { debug: Priority::Debug, ..PriorityMappings::new() };
    let layer = Layer::new().ok()?.with_priority_mappings(priorities).with_custom_fields(id.map(|id| ("ID", id)));
    Some(Registry::default().with(layer))
}

/// Where all entries come from, for `tracing`. There are no CODE_FILE and CODE_LINE, which would name this file for every entry.
struct Site(&'static Metadata<'static>);

impl Callsite for Site {
    fn set_interest(&self, _: Interest) {}
    fn metadata(&self) -> &Metadata<'_> {
        self.0
    }
}

const fn metadata(level: tracing_core::Level, site: &'static Site) -> Metadata<'static> {
    Metadata::new("record", "pinnace", level, None, None, None, FieldSet::new(&["message"], Identifier(site)), Kind::EVENT)
}

static ERROR: Metadata<'static> = metadata(tracing_core::Level::ERROR, &Site(&ERROR));
static WARNING: Metadata<'static> = metadata(tracing_core::Level::WARN, &Site(&WARNING));
static DEBUG: Metadata<'static> = metadata(tracing_core::Level::DEBUG, &Site(&DEBUG));
