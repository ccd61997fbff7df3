import BatchLossFormulas
import BatchLossKernelInterface

// Products with matrices that are mostly 0: pairs beyond a margin have no derivative.

/// The indices of the numbers that are not 0, in order.
@inline(never)
func nonzeros<V: KernelVector>(
  _ values: UnsafePointer<V.Lane>, _ count: Int, _ indices: UnsafeMutablePointer<Int32>, as: V.Type
) -> Int {
  var found = 0
  var start = 0
  while start < count {
    let end = min(start + V.laneCount, count)
    if !isZero(loadRest(values + start, end - start, as: V.self)) {
      // Without branches, which nothing could foresee.
      for index in start..<end {
        indices[found] = Int32(truncatingIfNeeded: index)
        found += values[index] == 0 ? 0 : 1
      }
    }
    start = end
  }
  return found
}

/// How many numbers are not 0.
@inline(never)
func countNonzeros<V: KernelVector>(_ values: UnsafePointer<V.Lane>, _ count: Int, as: V.Type) -> Int {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  var zeros = zero
  var index = 0
  while index < count {
    let numbers = loadRest(values + index, count - index, as: V.self)
    zeros = zeros + zero.replacing(with: one, where: numbers .== zero)
    index += V.laneCount
  }
  // Lanes beyond the last number are 0.
  return index - Int(zeros.total)
}

/// Whether all bits but signs are 0.
@inline(__always)
private func isZero<V: KernelVector>(_ vector: V) -> Bool {
  let bits = unsafeBitCast(vector, to: SIMD8<UInt64>.self)
  let four = bits.lowHalf | bits.highHalf
  let two = four.lowHalf | four.highHalf
  let signs: UInt64 = V.laneCount == 16 ? 0x8000_0000_8000_0000 : 0x8000_0000_0000_0000
  return (two.x | two.y) & ~signs == 0
}

/// Of the pairs of a row with some others: own gradient += Σ w·y, and that of each other += w·x.
@inline(never)
func addSparseRow<V: KernelVector>(_ arguments: SparseRowArguments<V.Lane>, as: V.Type) {
  let columns = arguments.columns
  let wide = 4 * V.laneCount
  var start = 0
  while start + wide <= columns {
    addSparseColumns(arguments, start, V.laneCount, vectors: 4, as: V.self)
    start += wide
  }
  while start < columns {
    addSparseColumns(arguments, start, min(V.laneCount, columns - start), vectors: 1, as: V.self)
    start += V.laneCount
  }
}

/// Four whole vectors of columns, or one, which may be a part.
@inline(__always)
private func addSparseColumns<V: KernelVector>(
  _ arguments: SparseRowArguments<V.Lane>, _ start: Int, _ lanes: Int, vectors: Int, as: V.Type
) {
  let (indices, weights, count) = (arguments.indices, arguments.weights, arguments.count)
  let (others, stride) = (arguments.others + start, arguments.othersStride)
  let zero = V(lane: 0)
  if let own = advance(arguments.ownGradient, start) {
    var (a, b, c, d) = (loadRest(UnsafePointer(own), lanes, as: V.self), zero, zero, zero)
    if vectors == 4 {
      (b, c, d) = (
        .load(own + V.laneCount), .load(own + 2 * V.laneCount), .load(own + 3 * V.laneCount)
      )
    }
    for place in 0..<count {
      let index = Int(indices[place])
      let (weight, other) = (V(lane: weights[index]), others + index * stride)
      a = V.multiplyAdd(weight, loadRest(other, lanes, as: V.self), a)
      guard vectors == 4 else { continue }
      b = V.multiplyAdd(weight, .load(other + V.laneCount), b)
      c = V.multiplyAdd(weight, .load(other + 2 * V.laneCount), c)
      d = V.multiplyAdd(weight, .load(other + 3 * V.laneCount), d)
    }
    storeRest(a, own, lanes)
    if vectors == 4 {
      b.store(own + V.laneCount)
      c.store(own + 2 * V.laneCount)
      d.store(own + 3 * V.laneCount)
    }
  }
  guard let gradients = advance(arguments.otherGradients, start) else { return }
  let row = arguments.own + start
  var (a, b, c, d) = (loadRest(row, lanes, as: V.self), zero, zero, zero)
  if vectors == 4 {
    (b, c, d) = (.load(row + V.laneCount), .load(row + 2 * V.laneCount), .load(row + 3 * V.laneCount))
  }
  for place in 0..<count {
    let index = Int(indices[place])
    let (weight, output) = (V(lane: weights[index]), gradients + index * arguments.otherGradientsStride)
    storeRest(V.multiplyAdd(weight, a, loadRest(UnsafePointer(output), lanes, as: V.self)), output, lanes)
    guard vectors == 4 else { continue }
    V.multiplyAdd(weight, b, .load(output + V.laneCount)).store(output + V.laneCount)
    V.multiplyAdd(weight, c, .load(output + 2 * V.laneCount)).store(output + 2 * V.laneCount)
    V.multiplyAdd(weight, d, .load(output + 3 * V.laneCount)).store(output + 3 * V.laneCount)
  }
}
