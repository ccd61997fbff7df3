import ArgumentParser
import BatchLossTensorFiles
import Foundation

/// The command `batch-loss`.
struct BatchLossCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "batch-loss",
    abstract: "Evaluates loss functions and their gradients over files of tensors.",
    version: "1.0.0",
    subcommands: [ListCommand.self, EvaluateCommand.self, DistancesCommand.self])
}

/// Runs the command; a failure is one line on standard error and a non-zero exit.
@main
enum Main {
  static func main() {
    removeTemporariesOnInterruption()
    do {
      var command = try BatchLossCommand.parseAsRoot()
      try command.run()
    } catch let error where BatchLossCommand.exitCode(for: error) == .success {
      print(BatchLossCommand.fullMessage(for: error))
    } catch {
      let message = BatchLossCommand.message(for: error).split(separator: "\n").joined(separator: " ")
      FileHandle.standardError.write(Data("batch-loss: \(message)\n".utf8))
      exit(BatchLossCommand.exitCode(for: error).rawValue)
    }
  }

  /// SIGINT and SIGTERM leave no hidden files behind.
  private static func removeTemporariesOnInterruption() {
    for signalNumber in [SIGINT, SIGTERM] {
      signal(signalNumber) { number in
        TensorOutput.removeTemporaries()
        _exit(128 + number)
      }
    }
  }
}
