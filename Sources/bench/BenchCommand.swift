import ArgumentParser
import BatchLoss
import BatchLossCatalog
import Foundation

/// The command `bench`.
struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measures the losses against what memory and arithmetic of this machine allow.",
    subcommands: [
      ListCommand.self, RunCommand.self, LimitsCommand.self, ScaleCommand.self, ServeCommand.self,
      LevelsCommand.self,
    ])
}

/// Runs the command; a failure is one line on standard error and a non-zero exit.
@main
enum Main {
  static func main() {
    do {
      var command = try BenchCommand.parseAsRoot()
      try command.run()
    } catch let error where BenchCommand.exitCode(for: error) == .success {
      print(BenchCommand.fullMessage(for: error))
    } catch {
      let message = BenchCommand.message(for: error).split(separator: "\n").joined(separator: " ")
      FileHandle.standardError.write(Data("bench: \(message)\n".utf8))
      exit(BenchCommand.exitCode(for: error).rawValue)
    }
  }
}

/// `bench list`.
struct ListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Lists the workloads with their default shapes.")

  func run() {
    let width = Workload.all.map(\.name.count).max() ?? 0
    for workload in Workload.all {
      let name = workload.name.padding(toLength: width + 2, withPad: " ", startingAt: 0)
      print(name + workload.shapes.map(\.description).joined(separator: ", "))
    }
  }
}

/// `bench levels`.
struct LevelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "levels", abstract: "Lists the instruction sets that this processor has, lowest first.")

  func run() {
    for level in InstructionSet.available { print(level.rawValue) }
  }
}
