import BatchLoss
import BatchLossKernelInterface
import Dispatch

/// What this machine can do at most, measured when it is asked for.
struct Limits {
  let engine: Engine
  private let probe: MemoryProbeKernel<Float>

  init(engine: Engine) throws {
    self.engine = engine
    probe = try KernelSelection.current.table(Float.self).memoryProbe
  }

  /// Bytes a second of a memory probe whose buffers together hold `footprint` bytes; the best of several runs.
  func bandwidth(_ kind: MemoryProbe, footprint: Int) -> Double {
    let buffers = kind == .copy || kind == .streamingCopy ? 2 : 1
    let count = max(4096, footprint / buffers / 4 / 4096 * 4096)
    let raw = UnsafeMutableRawPointer.allocate(byteCount: count * 4 * buffers, alignment: 4096)
    defer { raw.deallocate() }
    nonisolated(unsafe) let source = raw.bindMemory(to: Float.self, capacity: count * buffers)
    source.initialize(repeating: 0, count: count * buffers)
    nonisolated(unsafe) let destination = buffers == 2 ? source + count : source
    // Pieces as large as the blocks of element-wise losses, or smaller where every worker should have some.
    let piece = max(64, min(16384, count / engine.configuration.workerCount / 64 * 64))
    let pieces = count / piece
    let moved = Double(pieces * piece * 4 * kind.bytesPerByte)
    // Small buffers are passed over often enough for a clock to see it.
    let passes = max(1, (32 << 20) / (count * 4))
    let best = (0..<7).map { _ in
      time {
        engine.forEachBlock(pieces) { block, _ in
          for _ in 0..<passes {
            _ = probe(kind, source + block * piece, destination + block * piece, piece)
          }
        }
      }
    }.min()!
    return moved * Double(passes) / best
  }

  /// A footprint beyond every cache.
  static let memoryFootprint = 1 << 30

  /// Seconds below which work with this traffic and these products cannot come.
  func seconds(bytes: Int, flops: Double, costOnly: Bool) -> Double {
    // Memory, not the cache that a batch may happen to fit in: on a machine with a large last-level cache work
    // can come in below this limit.
    let memory = Double(bytes) / bandwidth(costOnly ? .read : .streamingCopy, footprint: Self.memoryFootprint)
    guard flops > 0 else { return memory }
    return max(memory, flops / productPeak(depth: 512))
  }

  /// Floating-point operations a second of one-thread products on every worker.
  func productPeak(depth: Int) -> Double {
    ProductProbe(engine: engine, depth: depth).flopsPerSecond()
  }
}

/// Seconds that `body` takes.
func time<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) -> Double {
  let start = DispatchTime.now().uptimeNanoseconds
  try body()
  return Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
}
