import ArgumentParser
import BatchLoss
import BatchLossCatalog
import Foundation

/// `bench run`.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Measures workloads: those named, or all to which the options apply.")

  @Argument(help: "Workloads; bench list names them.") var names: [String] = []
  @OptionGroup(title: "Shape") var shape: ShapeOptions
  @OptionGroup(title: "Machine") var machine: MachineOptions
  @OptionGroup(title: "Measurement") var options: MeasurementOptions
  @Flag(help: "Print one JSON object a line and nothing else; the header goes to standard error.")
  var json = false

  func run() throws {
    // Every name and shape is checked before the first measurement.
    let workloads =
      names.isEmpty
      ? Workload.all.filter { options.suit($0) && shape.suit($0) }
      : try names.map(Workload.named)
    guard !workloads.isEmpty else { throw UsageError("no workload has the dimensions and forms asked for") }
    let work = try workloads.flatMap { workload in
      try options.check(workload)
      return try shape.shapes(of: workload).map { (workload, $0) }
    }
    let engine = try machine.engine()
    switch machine.scalar {
    case .float32: try run(work, engine, as: Float.self)
    case .float64: try run(work, engine, as: Double.self)
    }
  }

  private func run<Scalar: LossScalar>(
    _ work: [(workload: Workload, shape: Dimensions)], _ engine: Engine, as: Scalar.Type
  ) throws {
    let limits = try Limits(
      engine: engine, traffic: options.traffic, products: work.contains { $0.workload.flops($0.shape) > 0 },
      as: Scalar.self)
    Header(engine: engine, scalar: machine.scalar, isa: try InstructionSet.current, limits: limits)
      .print(json: json)
    let table = Table(work.map { ($0.workload.name, $0.shape.description) })
    if !json { print(table.header) }
    for (workload, shape) in work {
      let row = try Measurement.measure(
        workload, shape, options, configuration: engine.configuration, limits: limits, as: Scalar.self)
      print(json ? try jsonLine(row) : table.line(row))
      fflush(nil)
    }
  }
}
