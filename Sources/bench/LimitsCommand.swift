import ArgumentParser
import BatchLoss
import BatchLossKernelInterface
import Foundation

/// `bench limits`.
struct LimitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "limits",
    abstract: "Measures memory and matrix products on this machine, with one worker and with all.")

  @OptionGroup(title: "Machine") var machine: MachineOptions
  @Option(name: .customLong("repeat"), help: "Measured passes; the best counts.") var repeats = 7
  @Flag(help: "Print one JSON object a line and nothing else.") var json = false

  /// Footprints that lie in memory, in the last-level cache and in the second-level cache.
  private static let footprints = [("DRAM", Limits.footprint), ("L3", 16 << 20), ("L2", 512 << 10)]
  private static let depths = [32, 128, 512, 2048]

  func validate() throws {
    guard repeats > 0 else { throw ValidationError("--repeat: expected a number > 0, got \(repeats)") }
  }

  func run() throws {
    let all = try machine.engine()
    Header(engine: all, scalar: machine.scalar, isa: try InstructionSet.current, limits: nil).print(json: json)
    for workers in Set([1, all.configuration.workerCount]).sorted() {
      let engine = try machine.engine(workers: workers)
      switch machine.scalar {
      case .float32: try measure(MachineProbe<Float>(engine: engine, repeats: repeats), workers)
      case .float64: try measure(MachineProbe<Double>(engine: engine, repeats: repeats), workers)
      }
    }
  }

  private func measure<Scalar>(_ probe: MachineProbe<Scalar>, _ workers: Int) throws {
    for (place, footprint) in Self.footprints {
      for kind in MemoryProbe.allCases {
        let rate = probe.bandwidth(kind, footprint: footprint)
        try report(Rate(kind.rawValue, place, workers, machine.scalar, rate / 1e9, "GB/s"), kind.title)
      }
    }
    for depth in Self.depths {
      let rate = probe.products(depth: depth)
      try report(Rate("product", "depth \(depth)", workers, machine.scalar, rate / 1e9, "GFLOP/s"), "product")
    }
  }

  private func report(_ rate: Rate, _ title: String) throws {
    if json {
      print(try jsonLine(rate))
    } else {
      print(
        title.padding(toLength: 20, withPad: " ", startingAt: 0)
          + rate.place.padding(toLength: 12, withPad: " ", startingAt: 0)
          + String(
            format: "%2d %@ %10.1f %@", rate.workers, rate.workers == 1 ? "worker " : "workers", rate.rate,
            rate.unit))
    }
    fflush(nil)
  }
}

/// One measured rate.
private struct Rate: Encodable {
  let name: String
  let place: String
  let workers: Int
  let scalar: String
  let rate: Double
  let unit: String

  init(_ name: String, _ place: String, _ workers: Int, _ scalar: ScalarName, _ rate: Double, _ unit: String) {
    self.name = name
    self.place = place
    self.workers = workers
    self.scalar = scalar.rawValue
    self.rate = rate
    self.unit = unit
  }
}
