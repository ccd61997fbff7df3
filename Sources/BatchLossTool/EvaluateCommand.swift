import ArgumentParser
import BatchLoss
import BatchLossCatalog
import BatchLossTensorFiles
import Foundation

/// `batch-loss evaluate LOSS …`.
struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Evaluates a loss and, on request, its gradient.",
    discussion: """
      Inputs are .npy files or tensors of a safetensors file, written FILE.safetensors:NAME. float16 and bfloat16 \
      are widened block by block; the arithmetic is float32, or float64 when an input is. Files larger than memory \
      are streamed. Outputs appear under their names only when all of them are complete.
      """)

  @Argument(help: "The loss; `batch-loss list` names them.") var loss: String
  @OptionGroup(title: "Inputs") var inputs: InputOptions
  @OptionGroup(title: "Hyper-parameters") var hyperparameters: HyperparameterOptions
  @Option(help: "What the sum of losses is divided by.") var reduction: Reduction?
  @Option(help: ArgumentHelp("Write the loss of each sample.", valueName: "file.npy")) var losses: String?
  @Option(help: ArgumentHelp("Write the gradient by each differentiable input.", valueName: "directory"))
  var gradients: String?
  @Option(help: "How many blocks are worked on at the same time.") var workers: Int?
  @Flag(help: "Print one JSON object.") var json = false

  func run() throws {
    guard let entry = LossCatalog[loss] else {
      throw UsageError("'\(loss)' is no loss; batch-loss list names them")
    }
    let configuration = try Engine.Configuration(workerCount: workers)
    let evaluation = try Evaluation(
      entry: entry, references: inputs.references, options: hyperparameters.options, reduction: reduction,
      lossesPath: losses, gradientsDirectory: gradients, engine: Engine(configuration: configuration))
    let report = try evaluation.run()
    print(json ? try jsonLine(report) : report.summary())
  }
}
