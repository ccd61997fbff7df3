import BatchLoss
import BatchLossKernelInterface
import Dispatch

/// Measures what memory and matrix products of this machine reach.
struct MachineProbe<Scalar: LossScalar> {
  let engine: Engine
  /// How often each pass is timed; the best counts, because other work on the machine can only slow it down.
  let repeats: Int
  private let probe: MemoryProbeKernel<Scalar>

  init(engine: Engine, repeats: Int) throws {
    self.engine = engine
    self.repeats = repeats
    probe = try KernelSelection.current.table(Scalar.self).memoryProbe
  }

  /// Bytes a second of a memory probe whose buffers together hold `footprint` bytes.
  func bandwidth(_ kind: MemoryProbe, footprint: Int) -> Double {
    let buffers = kind == .copy || kind == .streamingCopy ? 2 : 1
    let stride = MemoryLayout<Scalar>.stride
    let count = max(4096, footprint / buffers / stride / 4096 * 4096)
    let raw = LargeMemory.allocate(byteCount: count * stride * buffers, alignment: 4096)
    defer { raw.deallocate() }
    nonisolated(unsafe) let source = raw.bindMemory(to: Scalar.self, capacity: count * buffers)
    fill(source, count * buffers)
    nonisolated(unsafe) let destination = buffers == 2 ? source + count : source
    // Pieces as large as the blocks of element-wise losses, or smaller where every worker should have some.
    let piece = max(64, min(65536 / stride, count / engine.configuration.workerCount / 64 * 64))
    let pieces = count / piece
    let moved = Double(pieces * piece * stride * kind.bytesPerByte)
    // Small buffers are passed over often enough for a clock to see it: all of a worker's share before any of it again.
    let passes = max(1, (32 << 20) / (count * stride))
    let blocks = passes == 1 ? pieces : min(pieces, engine.configuration.workerCount)
    let best = (0..<repeats).map { _ in
      time {
        engine.forEachBlock(blocks) { block, _ in
          for _ in 0..<passes {
            for place in pieces * block / blocks..<pieces * (block + 1) / blocks {
              _ = probe(kind, source + place * piece, destination + place * piece, piece)
            }
          }
        }
      }
    }.min()!
    return moved * Double(passes) / best
  }

  /// Initialises memory with numbers such as gradients are: some processors write zeros faster than anything else.
  private func fill(_ numbers: UnsafeMutablePointer<Scalar>, _ count: Int) {
    var random = Random(seed: 1)
    let pattern = min(count, 4096)
    for index in 0..<pattern { (numbers + index).initialize(to: Scalar(random.normal())) }
    var filled = pattern
    while filled < count {
      let next = min(filled, count - filled)
      (numbers + filled).initialize(from: numbers, count: next)
      filled += next
    }
  }

  /// Floating-point operations a second of one-thread products on every worker at once.
  func products(depth: Int) -> Double {
    ProductProbe(engine: engine, depth: depth).flopsPerSecond(of: Scalar.self, repeats: repeats)
  }
}

/// Seconds that `body` takes.
func time<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) -> Double {
  let start = DispatchTime.now().uptimeNanoseconds
  try body()
  return Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
}
