import BatchLossFormulas
import BatchLossKernelInterface

/// Moves memory and does next to nothing with it: what no kernel can be faster than.
@inline(__always)
func probeMemory<V: KernelVector>(
  _ probe: MemoryProbe, _ source: UnsafeMutablePointer<V.Lane>, _ destination: UnsafeMutablePointer<V.Lane>,
  _ count: Int, as: V.Type
) -> Double {
  var (a, b) = (V(lane: 0), V(lane: 0))
  @inline(__always)
  func forEachPair(_ body: (Int, V, V) -> Void) {
    var index = 0
    while index < count {
      body(index, V.load(source + index), V.load(source + (index + V.laneCount)))
      index += 2 * V.laneCount
    }
  }
  switch probe {
  case .read:
    forEachPair { _, x, y in
      a = a + x
      b = b + y
    }
  case .copy:
    forEachPair { index, x, y in
      x.store(destination + index)
      y.store(destination + (index + V.laneCount))
    }
  case .streamingCopy:
    forEachPair { index, x, y in
      x.stream(destination + index)
      y.stream(destination + (index + V.laneCount))
    }
  case .update:
    let half = V(lane: 0.5)
    forEachPair { index, x, y in
      (x + half).store(source + index)
      (y + half).store(source + (index + V.laneCount))
    }
  }
  return (a + b).total
}
