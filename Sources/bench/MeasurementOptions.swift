import ArgumentParser
import BatchLoss
import BatchLossCatalog
import Foundation

/// The scalar types by name.
enum ScalarName: String, ExpressibleByArgument, CaseIterable {
  case float32, float64
}

/// Options about the machine, which every measuring command understands.
struct MachineOptions: ParsableArguments {
  @Option(help: "The scalar type.") var scalar = ScalarName.float32
  @Option(help: "How many blocks are worked on at the same time.") var workers: Int?
  @Option(help: ArgumentHelp("The instruction set; bench levels names them.", valueName: "level")) var isa: String?

  /// Chooses the instruction set, which is done once per process, and makes the engine.
  func engine(workers override: Int? = nil) throws -> Engine {
    if let isa {
      let levels = InstructionSet.available.map(\.rawValue)
      guard levels.contains(isa) else {
        throw UsageError("--isa: expected one of \(levels.joined(separator: ", ")), got '\(isa)'")
      }
      setenv("BATCHLOSS_ISA", isa, 1)
    }
    _ = try InstructionSet.current
    return Engine(configuration: try Engine.Configuration(workerCount: override ?? workers))
  }
}

/// Options about the evaluations of a workload.
struct MeasurementOptions: ParsableArguments {
  @Option(name: .customLong("repeat"), help: "Measured runs.") var repeats = 7
  @Option(help: "Runs before the measured ones.") var warmup = 2
  @Flag(help: "No gradient.") var costOnly = false
  @Flag(help: "The gradient replaces the input.") var inPlace = false

  func validate() throws {
    guard repeats > 0 else { throw ValidationError("--repeat: expected a number > 0, got \(repeats)") }
    guard warmup >= 0 else { throw ValidationError("--warmup: expected a number ≥ 0, got \(warmup)") }
    guard !(costOnly && inPlace) else { throw ValidationError("--cost-only and --in-place exclude each other") }
  }

  var traffic: Limits.Traffic { costOnly ? .cost : inPlace ? .inPlace : .gradient }

  /// Whether the workload has the form asked for.
  func suit(_ workload: Workload) -> Bool {
    (!inPlace || workload.evaluatesInPlace) && (!costOnly || workload.hasGradient)
  }

  /// Refuses a form that the workload does not have.
  func check(_ workload: Workload) throws {
    guard !costOnly || workload.hasGradient else {
      throw UsageError("--cost-only: \(workload.name) has no gradient to leave out")
    }
    guard !inPlace || workload.evaluatesInPlace else {
      throw UsageError("--in-place: \(workload.name) needs memory of its own for gradients")
    }
  }
}
