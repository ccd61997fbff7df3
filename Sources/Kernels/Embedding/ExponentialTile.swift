import BatchLossFormulas
import BatchLossKernelInterface

/// Elements between two transfers of lane sums to float64.
private let flushInterval = 512

/// One exponential of a pair serves its row and its column, since both have the same shift. With AVX-512 four rows are at work
/// at a time, for which sums of columns are loaded and stored once; others lack the registers.
@inline(never)
func exponentialTile<V: KernelVector>(_ tile: ExponentialTile<V.Lane>, as: V.Type) {
  var row = 0
  #if BATCHLOSS_X86_V4
    while row + 4 <= tile.rows {
      exponentials(tile, row, count: 4, as: V.self)
      row += 4
    }
  #endif
  while row < tile.rows {
    exponentials(tile, row, count: 1, as: V.self)
    row += 1
  }
}

/// Of four rows or of one.
@inline(__always)
private func exponentials<V: KernelVector>(_ tile: ExponentialTile<V.Lane>, _ row: Int, count: Int, as: V.Type) {
  let (zero, a, minusShift) = (V(lane: 0), V(lane: tile.a), V(lane: -tile.shift))
  let (stride, streams) = (tile.stride, tile.streams)
  let (values, output) = (tile.values + row * stride, tile.output + row * stride)
  // Never loaded nor stored to where there are none.
  let sumsColumns = tile.columnSums != nil
  let columnSums = tile.columnSums ?? output
  let columnProducts = tile.columnProducts ?? output

  var start = 0
  while start < tile.columns {
    let end = min(start + flushInterval, tile.columns)
    let whole = start + ((end - start) & -V.laneCount)
    var (sums0, sums1, sums2, sums3) = (zero, zero, zero, zero)
    var (products0, products1, products2, products3) = (zero, zero, zero, zero)

    @inline(__always)
    func step(_ index: Int, _ lanes: Int) {
      var columnSum = zero
      var columnProduct = zero
      if sumsColumns {
        columnSum = loadLanes(UnsafePointer(columnSums) + index, lanes, as: V.self)
        columnProduct = loadLanes(UnsafePointer(columnProducts) + index, lanes, as: V.self)
      }
      @inline(__always)
      func add(_ place: Int, _ sums: inout V, _ products: inout V) {
        let similarity = loadLanes(values + place, lanes, as: V.self)
        var power = V.exp(nonPositive: V.multiplyAdd(a, similarity, minusShift))
        if lanes < V.laneCount {
          power = zero.replacing(with: power, where: V.first(lanes))
          power.store(output + place, count: lanes)
        } else {
          power.store(output + place, streams: streams)
        }
        sums = sums + power
        products = V.multiplyAdd(power, similarity, products)
        columnSum = columnSum + power
        columnProduct = V.multiplyAdd(power, similarity, columnProduct)
      }
      add(index, &sums0, &products0)
      if count == 4 {
        add(index + stride, &sums1, &products1)
        add(index + 2 * stride, &sums2, &products2)
        add(index + 3 * stride, &sums3, &products3)
      }
      if sumsColumns {
        storeLanes(columnSum, columnSums + index, lanes)
        storeLanes(columnProduct, columnProducts + index, lanes)
      }
    }

    var index = start
    while index < whole {
      step(index, V.laneCount)
      index += V.laneCount
    }
    if index < end { step(index, end - index) }

    @inline(__always)
    func flush(_ row: Int, _ sums: V, _ products: V) {
      guard let rowSums = tile.rowSums else { return }
      rowSums[row].sum += sums.total
      rowSums[row].product += products.total
    }
    flush(row, sums0, products0)
    if count == 4 {
      flush(row + 1, sums1, products1)
      flush(row + 2, sums2, products2)
      flush(row + 3, sums3, products3)
    }
    start = end
  }
}
