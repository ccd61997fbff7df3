import ArgumentParser
import BatchLoss
import Foundation

/// Options that every measuring command understands.
struct MeasurementOptions: ParsableArguments {
  enum ScalarName: String, ExpressibleByArgument, CaseIterable { case float32, float64 }

  @Option(help: "The scalar type.") var scalar = ScalarName.float32
  @Option(help: "How many blocks are worked on at the same time.") var workers: Int?
  @Option(help: ArgumentHelp("The instruction set.", valueName: "level")) var isa: String?
  @Option(name: .customLong("repeat"), help: "Measured runs.") var repeats = 7
  @Option(help: "Runs before the measured ones.") var warmup = 2
  @Flag(help: "No gradient.") var costOnly = false
  @Flag(help: "The gradient replaces the input.") var inPlace = false

  func validate() throws {
    guard repeats > 0 else { throw ValidationError("--repeat: expected a number > 0, got \(repeats)") }
    guard warmup >= 0 else { throw ValidationError("--warmup: expected a number ≥ 0, got \(warmup)") }
    guard !(costOnly && inPlace) else { throw ValidationError("--cost-only and --in-place exclude each other") }
  }

  var plan: MeasurementPlan {
    MeasurementPlan(
      repeats: repeats, warmup: warmup, isDouble: scalar == .float64, costOnly: costOnly, inPlace: inPlace)
  }

  /// Chooses the instruction set, which is done once per process, and makes the engine.
  func engine(workers override: Int? = nil) throws -> Engine {
    if let isa { setenv("BATCHLOSS_ISA", isa, 1) }
    _ = try InstructionSet.current
    return Engine(configuration: try Engine.Configuration(workerCount: override ?? workers))
  }
}

/// `bench run`.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Measures workloads: all, or those named.")

  @Argument(help: "Workloads; bench list names them.") var names: [String] = []
  @OptionGroup(title: "Shape") var shape: ShapeOptions
  @OptionGroup(title: "Measurement") var options: MeasurementOptions
  @Flag(help: "Print one JSON object a line and nothing else.") var json = false

  func run() throws {
    let workloads = names.isEmpty ? Workload.all : try names.map(Workload.named)
    // Every name and shape is checked before the first measurement.
    let work = try workloads.map { ($0, try shape.shapes(of: $0)) }
    let engine = try options.engine()
    let limits = try Limits(engine: engine)
    let table = Table()
    if !json { print(try Header(engine: engine).text) }
    for (workload, shapes) in work {
      for shape in shapes {
        let row = try Measurement.measure(workload, shape, options.plan, engine: engine, limits: limits)
        print(json ? try row.json() : table.line(row))
        fflush(nil)
      }
    }
  }
}
