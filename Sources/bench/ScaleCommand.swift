import ArgumentParser
import BatchLossCatalog
import BatchLoss
import Foundation

/// `bench scale`: time against rows, columns and workers.
struct ScaleCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale", abstract: "Measures a workload at every combination of the given sizes.")

  @Argument(help: "The workload.") var name: String
  @Option(parsing: .upToNextOption, help: "Rows.") var rows: [Int] = []
  @Option(parsing: .upToNextOption, help: "Columns.") var columns: [Int] = []
  @Option(name: .customLong("worker-counts"), parsing: .upToNextOption, help: "Worker counts.")
  var workerCounts: [Int] = []
  @OptionGroup(title: "Measurement") var options: MeasurementOptions
  @Flag(help: "Print one JSON object a line instead of CSV.") var json = false

  func run() throws {
    let workload = try Workload.named(name)
    let base = workload.shapes[0]
    guard rows.isEmpty || base.values[.rows] != nil, columns.isEmpty || base.values[.columns] != nil else {
      throw UsageError("\(name) has no such dimension; its shape is \(base)")
    }
    guard (rows + columns).allSatisfy({ $0 > 0 && $0 < 1 << 40 }) else {
      throw UsageError("--rows and --columns: expected numbers > 0")
    }
    let counts = try workerCounts.isEmpty ? [options.engine().configuration.workerCount] : workerCounts
    if !json { print("name,rows,columns,workers,median_ms,min_ms,limit_ms,fraction_of_limit") }
    for count in counts {
      let engine = try options.engine(workers: count)
      let limits = try Limits(engine: engine)
      for row in rows.isEmpty ? [base[.rows]] : rows {
        for column in columns.isEmpty ? [base[.columns]] : columns {
          var shape = base
          if base.values[.rows] != nil { shape.values[.rows] = row }
          if base.values[.columns] != nil { shape.values[.columns] = column }
          let result = try Measurement.measure(workload, shape, options.plan, engine: engine, limits: limits)
          print(
            json
              ? try result.json()
              : "\(name),\(row),\(column),\(count),\(result.medianMilliseconds),\(result.minimumMilliseconds),"
                + "\(result.limitMilliseconds),\(result.fractionOfLimit)")
          fflush(nil)
        }
      }
    }
  }
}
