//! `ccdni import`: weights that another program trained.

use std::path::PathBuf;

use super::spec_args::SpecArgs;
use crate::error::{Error, Result};
use crate::exchange::import::{StateDictionaries, vocabulary};
use crate::run::directory;
use crate::spec::resolve;
use crate::tasks::Registry;

/// Import the weights of a network that PyTorch code trained, as a run for sample, caption-set, export and `train.init_from`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni import model.pth
  ccdni import model.pth --as experiments/linedraw_dni.yaml -o imported
  ccdni import decoder.ckpt encoder.ckpt --as experiments/paper/captioning.yaml --vocabulary vocab.pkl -o imported

Files are state dictionaries: what `torch.save(model.state_dict(), FILE)` writes, old or new, or safetensors.
Without --as, the network in them is described. docs/exchange.md lists the names that are recognised.")]
pub struct Args {
    /// The files of one network: state dictionaries.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The spec of the network: task, model, training.
    #[arg(long = "as", value_name = "SPEC", requires = "out")]
    spec: Option<PathBuf>,
    /// Override a value of the spec: a dotted path and a YAML value; may be repeated, later ones win.
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "spec")]
    set: Vec<String>,
    /// The vocabulary of a captioning network: a vocab.pkl or a tokenizer.json.
    #[arg(long, value_name = "FILE", requires = "spec")]
    vocabulary: Option<PathBuf>,
    /// The seed whose data the network was trained with, as far as that is known.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Directory of the run directories: one without trained runs of this spec.
    #[arg(short = 'o', long = "outputs", value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let dictionaries = StateDictionaries::open(&args.files)?;
    let (spec, outputs) = match (args.spec, args.out) {
        (Some(spec), Some(outputs)) => (spec, outputs),
        (_, Some(_)) => {
            return Err(Error::Usage(format!(
                "the task and the training of these weights are not in the files: name a spec with `--as SPEC`; its \
                 network is {}",
                dictionaries.description()
            )));
        }
        _ => return super::print(&format!("{}\n", dictionaries.description())),
    };
    directory::check_outputs(&outputs)?;
    let resolved = resolve(&SpecArgs { spec, set: args.set }.request(), registry)?;
    let words = args.vocabulary.as_deref().map(vocabulary).transpose()?;
    let import = dictionaries.read(&resolved, words, &registry.train().model)?;
    let run = import.write(args.seed, &outputs)?;
    super::print(&format!("imported as seed {} of {}\n", args.seed, run.path.display()))
}
