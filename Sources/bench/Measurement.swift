import BatchLoss
import BatchLossCatalog
import Foundation

/// How a workload is measured.
struct MeasurementPlan {
  var repeats = 7
  var warmup = 2
  var isDouble = false
  var costOnly = false
  var inPlace = false
}

/// One measured row.
struct Measurement: Encodable {
  let name: String
  let shape: String
  let scalar: String
  let workers: Int
  let isa: String
  let medianMilliseconds: Double
  let minimumMilliseconds: Double
  /// (largest − smallest) / median.
  let spread: Double
  let bytes: Int
  let flops: Double
  let limitMilliseconds: Double
  let fractionOfLimit: Double
  let peakResidentBytes: Int
  let cost: Double

  private enum CodingKeys: String, CodingKey {
    case name, shape, scalar, workers, isa, spread, bytes, flops, cost
    case medianMilliseconds = "median_ms"
    case minimumMilliseconds = "min_ms"
    case limitMilliseconds = "limit_ms"
    case fractionOfLimit = "fraction_of_limit"
    case peakResidentBytes = "peak_rss_bytes"
  }

  static func measure(
    _ workload: Workload, _ shape: Dimensions, _ plan: MeasurementPlan, engine: Engine, limits: Limits
  ) throws -> Measurement {
    plan.isDouble
      ? try measure(workload, shape, plan, engine, limits, as: Double.self)
      : try measure(workload, shape, plan, engine, limits, as: Float.self)
  }

  private static func measure<Scalar: LossScalar>(
    _ workload: Workload, _ shape: Dimensions, _ plan: MeasurementPlan, _ engine: Engine, _ limits: Limits,
    as: Scalar.Type
  ) throws -> Measurement {
    let batch = try Batch<Scalar>(
      workload, shape, engine: engine, costOnly: plan.costOnly, inPlace: plan.inPlace)
    var cost = 0.0
    var times: [Double] = []
    for run in 0..<plan.warmup + plan.repeats {
      batch.restore()
      let seconds = try time { cost = try batch.run().cost.value }
      if run >= plan.warmup { times.append(seconds) }
    }
    times.sort()
    let median = times[times.count / 2]
    let traffic = workload.traffic(shape)
    let bytes = (traffic.read + (plan.costOnly ? 0 : traffic.written)) * MemoryLayout<Scalar>.stride
    let flops = workload.flops(shape)
    let limit = limits.seconds(bytes: bytes, flops: flops, costOnly: plan.costOnly)
    return Measurement(
      name: workload.name, shape: shape.description,
      scalar: Scalar.self == Float.self ? "float32" : "float64", workers: engine.configuration.workerCount,
      isa: try InstructionSet.current.rawValue, medianMilliseconds: median * 1e3,
      minimumMilliseconds: times[0] * 1e3, spread: (times[times.count - 1] - times[0]) / median, bytes: bytes,
      flops: flops, limitMilliseconds: limit * 1e3, fractionOfLimit: limit / median,
      peakResidentBytes: residentPeak(), cost: cost)
  }

  /// One JSON object on one line.
  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}

/// The most memory that this process has held.
func residentPeak() -> Int {
  var usage = rusage()
  getrusage(0 /* RUSAGE_SELF */, &usage)
  return usage.ru_maxrss * 1024
}
