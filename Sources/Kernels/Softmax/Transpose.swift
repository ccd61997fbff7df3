/// Transposes a square of `laneCount` vectors in place.
@inline(__always)
func transpose<V: KernelVector>(_ vectors: UnsafeMutablePointer<V.Lane>, as: V.Type) {
  if V.laneCount == 16 { exchange(vectors, distance: 8, as: V.self) }
  exchange(vectors, distance: 4, as: V.self)
  exchange(vectors, distance: 2, as: V.self)
  exchange(vectors, distance: 1, as: V.self)
}

@inline(__always)
private func exchange<V: KernelVector>(_ vectors: UnsafeMutablePointer<V.Lane>, distance: Int, as: V.Type) {
  var index = 0
  while index < V.laneCount {
    var offset = index
    while offset < index + distance {
      let (first, second) = (vectors + offset * V.laneCount, vectors + (offset + distance) * V.laneCount)
      var (a, b) = (V.load(first), V.load(second))
      V.exchange(&a, &b, distance: distance)
      a.store(first)
      b.store(second)
      offset += 1
    }
    index += 2 * distance
  }
}
