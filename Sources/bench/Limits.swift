import BatchLoss
import BatchLossKernelInterface
import Foundation

/// The rates that bound the rows of a run.
struct Limits: CustomStringConvertible {
  /// How a workload goes through memory.
  enum Traffic {
    /// Inputs are read.
    case cost
    /// Inputs are read, gradients are written to memory of their own.
    case gradient
    /// The gradient replaces the input.
    case inPlace

    /// The pass over memory that nothing with this traffic can be faster than.
    var probe: MemoryProbe {
      switch self {
      case .cost: .read
      case .gradient: .streamingCopy
      case .inPlace: .update
      }
    }
  }

  /// A footprint beyond every cache.
  static let footprint = 1 << 30
  /// The depth of the products that are measured; deeper ones are hardly faster.
  static let depth = 512
  static let repeats = 15

  let traffic: Traffic
  /// Bytes a second.
  let bandwidth: Double
  /// Floating-point operations a second, where products were measured.
  let products: Double?
  private let footprint: Int
  private let repeats: Int
  private let scalar: String

  /// Measures with as many workers as the engine has; the best of `repeats` counts.
  init<Scalar: LossScalar>(
    engine: Engine, traffic: Traffic = .gradient, products: Bool = true, footprint: Int = Self.footprint,
    repeats: Int = Self.repeats, as: Scalar.Type = Float.self
  ) throws {
    let probe = try MachineProbe<Scalar>(engine: engine, repeats: repeats)
    self.traffic = traffic
    self.footprint = footprint
    self.repeats = repeats
    bandwidth = probe.bandwidth(traffic.probe, footprint: footprint)
    self.products = products ? probe.products(depth: Self.depth) : nil
    scalar = Scalar.self == Float.self ? "float32" : "float64"
  }

  /// Seconds below which work with these bytes and these operations of products cannot come.
  ///
  /// The bytes are held against memory, not against the cache that a batch may happen to fit in: on a machine with
  /// a large last-level cache, work can come in below its limit.
  func seconds(bytes: Int, flops: Double) -> Double {
    max(Double(bytes) / bandwidth, products.map { flops / $0 } ?? 0)
  }

  /// What limits are computed with, for the header.
  var description: String {
    let memory = String(
      format: "%.1f GB/s (%@, %d MiB, best of %d)", bandwidth / 1e9, traffic.probe.title, footprint >> 20,
      repeats)
    guard let products else { return memory }
    return memory
      + String(format: ", %.1f GFLOP/s (%@ products of depth %d)", products / 1e9, scalar, Self.depth)
  }
}

extension MemoryProbe {
  /// The name in tables.
  var title: String {
    switch self {
    case .read: "read"
    case .copy: "copy"
    case .streamingCopy: "non-temporal copy"
    case .update: "in-place update"
    }
  }
}
