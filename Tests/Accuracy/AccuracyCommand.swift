import ArgumentParser

/// Measures how accurate the package is; prints tables for `docs/numerics.md`.
@main
struct AccuracyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "BatchLossAccuracy", abstract: "Measures the accuracy of elementary functions and of losses.",
    subcommands: [FunctionsCommand.self, LossesCommand.self])
}
