/// Transposes a square of `laneCount` vectors: row i comes from `load(i)`, column j goes to `store(j, …)`.
///
/// Two rounds of four vectors each, with `scratch` (`laneCount` vectors) between them; `store` is called after
/// every `load`.
@inline(__always)
func transpose<V: KernelVector>(
  _ scratch: UnsafeMutablePointer<V.Lane>, as: V.Type, load: (Int) -> V, store: (Int, V) -> Void
) {
  for row in 0..<4 {
    if V.laneCount == 16 {
      var (a, b, c, d) = (load(row), load(row + 4), load(row + 8), load(row + 12))
      V.exchange(&a, &c, distance: 8)
      V.exchange(&b, &d, distance: 8)
      V.exchange(&a, &b, distance: 4)
      V.exchange(&c, &d, distance: 4)
      a.store(scratch + row * V.laneCount)
      b.store(scratch + (row + 4) * V.laneCount)
      c.store(scratch + (row + 8) * V.laneCount)
      d.store(scratch + (row + 12) * V.laneCount)
    } else {
      var (a, b) = (load(row), load(row + 4))
      V.exchange(&a, &b, distance: 4)
      a.store(scratch + row * V.laneCount)
      b.store(scratch + (row + 4) * V.laneCount)
    }
  }
  var row = 0
  while row < V.laneCount {
    let start = scratch + row * V.laneCount
    var (a, b, c, d) = (
      V.load(start), V.load(start + V.laneCount), V.load(start + 2 * V.laneCount), V.load(start + 3 * V.laneCount)
    )
    V.exchangeQuads(&a, &b, &c, &d)
    store(row, a)
    store(row + 1, b)
    store(row + 2, c)
    store(row + 3, d)
    row += 4
  }
}
