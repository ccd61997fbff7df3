import BatchLoss
import BatchLossCatalog
import Foundation

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
  /// With the inputs, outputs and workspaces of this row, and of no other.
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

  /// Measures a workload with an engine of its own.
  static func measure<Scalar: LossScalar>(
    _ workload: Workload, _ shape: Dimensions, _ options: MeasurementOptions,
    configuration: Engine.Configuration, limits: Limits, as: Scalar.Type
  ) throws -> Measurement {
    ResidentMemory.resetPeak()
    let batch = try Batch<Scalar>(
      workload, shape, engine: Engine(configuration: configuration), costOnly: options.costOnly,
      inPlace: options.inPlace)
    var cost = 0.0
    var times: [Double] = []
    for run in 0..<options.warmup + options.repeats {
      batch.restore()
      let seconds = try time { cost = try batch.run().cost.value }
      if run >= options.warmup { times.append(seconds) }
    }
    times.sort()
    let middle = times.count / 2
    let median = times.count.isMultiple(of: 2) ? (times[middle - 1] + times[middle]) / 2 : times[middle]
    let traffic = workload.traffic(shape)
    let bytes = (traffic.read + (options.costOnly ? 0 : traffic.written)) * MemoryLayout<Scalar>.stride
    let flops = workload.flops(shape, costOnly: options.costOnly)
    let limit = limits.seconds(bytes: bytes, flops: flops)
    return Measurement(
      name: workload.name, shape: shape.description,
      scalar: Scalar.self == Float.self ? "float32" : "float64", workers: configuration.workerCount,
      isa: try InstructionSet.current.rawValue, medianMilliseconds: median * 1e3,
      minimumMilliseconds: times[0] * 1e3, spread: (times[times.count - 1] - times[0]) / median, bytes: bytes,
      flops: flops, limitMilliseconds: limit * 1e3, fractionOfLimit: limit / median,
      peakResidentBytes: ResidentMemory.peak - batch.bytesToRestore, cost: cost)
  }
}

/// One JSON object on one line.
func jsonLine(_ value: some Encodable) throws -> String {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  encoder.nonConformingFloatEncodingStrategy = .convertToString(
    positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
  return String(decoding: try encoder.encode(value), as: UTF8.self)
}
