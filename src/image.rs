//! `wharf image`: the local images.

use crate::{
    guests,
    logging::{self, LogFormat},
};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use jiff::{Timestamp, Unit};
use runtime_engine::PoolSizes;
use runtime_images::{ImageRecord, ImageStore};
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// What to do with the local images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Add a WebAssembly file as an image
    #[command(
        after_help = "The file is a component, a core module of WASI preview 1, or either as text.\n\n\
                            Example:\n  wharf image load web.wasm -t web:1.0"
    )]
    Load {
        /// The file
        file: PathBuf,
        /// The image's name
        #[arg(short, long, value_name = "NAME")]
        tag: String,
    },
    /// List the images
    #[command(visible_alias = "list")]
    Ls {
        /// Print only the names
        #[arg(short, long)]
        quiet: bool,
    },
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm {
        /// Their names or digests
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Does it.
pub(crate) fn image(command: ImageCommand, home: &Path) -> Result<()> {
    logging::init_command(LogFormat::Text);
    match command {
        ImageCommand::Load { file, tag } => load(&file, &tag, home),
        ImageCommand::Ls { quiet } => list(quiet, home),
        ImageCommand::Rm { names } => remove(&names, home),
    }
}

fn load(file: &Path, tag: &str, home: &Path) -> Result<()> {
    let engine = guests::engine(home, PoolSizes::for_guests(1_000))?;
    let images = guests::images(home, &engine)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let record = runtime.block_on(images.load_file(file, tag, Timestamp::now()))?;
    print(&format!("Loaded {} ({}, {})\n", record.name, record.digest, human_size(record.size)))
}

fn list(quiet: bool, home: &Path) -> Result<()> {
    let records = store(home)?.list()?;
    let text = if quiet {
        records.iter().map(|record| format!("{}\n", record.name)).collect()
    } else {
        table(&records, Timestamp::now())
    };
    print(&text)
}

fn remove(names: &[String], home: &Path) -> Result<()> {
    let store = store(home)?;
    for name in names {
        let removed = store.remove(name).with_context(|| format!("cannot remove {name}"))?;
        print(&removed.iter().map(|record| format!("Removed {}\n", record.name)).collect::<String>())?;
    }
    Ok(())
}

fn store(home: &Path) -> Result<ImageStore> {
    ImageStore::open(&guests::images_dir(home)).context("cannot open the local images")
}

fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn table(records: &[ImageRecord], now: Timestamp) -> String {
    let mut rows = vec![["NAME", "DIGEST", "SIZE", "LOADED"].map(ToOwned::to_owned)];
    rows.extend(records.iter().map(|record| {
        let digest = record.digest.hex()[..12].to_owned();
        [record.name.clone(), digest, human_size(record.size), human_age(record.created, now)]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 4]| {
        let [name, digest, size, age] = row;
        format!("{name:<0$}   {digest:<1$}   {size:<2$}   {age}\n", widths[0], widths[1], widths[2])
    };
    rows.iter().map(line).collect()
}

fn human_size(bytes: u64) -> String {
    let (unit, name) = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit)
        .unwrap_or((1, "B"));
    if unit == 1 {
        return format!("{bytes}{name}");
    }
    format!("{}.{}{name}", bytes / unit, bytes % unit / (unit / 10))
}

fn human_age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.since((Unit::Second, then)).map_or(0, |age| age.get_seconds()).max(0);
    match seconds {
        0..60 => format!("{seconds} seconds ago"),
        60..3_600 => format!("{} minutes ago", seconds / 60),
        3_600..172_800 => format!("{} hours ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_for_people() {
        let sizes = [7, 1_500, 220_000, 40_960_000, 1_230_000_000].map(human_size);
        assert_eq!(sizes, ["7B", "1.5kB", "220.0kB", "40.9MB", "1.2GB"]);
        let at = |second| Timestamp::from_second(second).unwrap();
        let ages = [59, 61, 7_300, 400_000].map(|age| human_age(at(1_000), at(1_000 + age)));
        assert_eq!(ages, ["59 seconds ago", "1 minutes ago", "2 hours ago", "4 days ago"]);
    }
}
