import ArgumentParser
import BatchLoss
import BatchLossKernelInterface
import Foundation

/// `bench limits`.
struct LimitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "limits", abstract: "Measures memory and products on this machine.")

  @OptionGroup(title: "Measurement") var options: MeasurementOptions
  @Flag(help: "Print one JSON object a line and nothing else.") var json = false

  /// Footprints that lie in memory, in the last-level cache and in the second-level cache.
  private static let footprints = [("DRAM", 1 << 30), ("L3", 16 << 20), ("L2", 512 << 10)]
  private static let depths = [32, 128, 512, 2048]

  func run() throws {
    let all = try options.engine()
    let counts = Set([1, all.configuration.workerCount]).sorted()
    if !json {
      print(try Header(engine: all).text.components(separatedBy: "\n\n")[0])
      print("")
    }
    for workers in counts {
      let limits = try Limits(engine: try options.engine(workers: workers))
      for (place, footprint) in Self.footprints {
        for kind in MemoryProbe.allCases {
          let rate = limits.bandwidth(kind, footprint: footprint) / 1e9
          report(kind.rawValue, place, workers, rate, "GB/s")
        }
      }
      for depth in Self.depths {
        report("product", "depth \(depth)", workers, limits.productPeak(depth: depth) / 1e9, "GFLOP/s")
      }
    }
  }

  private func report(_ name: String, _ place: String, _ workers: Int, _ rate: Double, _ unit: String) {
    if json {
      print(
        "{\"name\":\"\(name)\",\"place\":\"\(place)\",\"rate\":\(rate),\"unit\":\"\(unit)\",\"workers\":\(workers)}"
      )
    } else {
      print(
        name.padding(toLength: 16, withPad: " ", startingAt: 0)
          + place.padding(toLength: 12, withPad: " ", startingAt: 0)
          + String(format: "%d workers %10.1f %@", workers, rate, unit))
    }
    fflush(nil)
  }
}
