import BatchLossFormulas
import BatchLossKernelInterface

/// The screening kernels of a vector type; `nil` where products of integers are not faster than those of BLAS, whose
/// instruction set does not follow ours.
@inline(__always)
func screeningKernels<V: KernelVector>(of vector: V.Type) -> ScreeningKernels<V.Lane>? {
  #if BATCHLOSS_X86_V3 || BATCHLOSS_X86_V4
    ScreeningKernels(
      quantize: { quantizeRow($0, $1, $2, $3, $4, as: vector) }, pack: { packPanel($0, $1, $2, $3) },
      screen: { screenTile($0) })
  #else
    nil
  #endif
}

#if BATCHLOSS_X86_V3 || BATCHLOSS_X86_V4
  import _Builtin_intrinsics.intel

  /// Sixteen integers of 32 bits, or twice as many of 16.
  private typealias Integers = SIMD16<Int32>
  private typealias Numbers = SIMD16<Float>

  // MARK: Integers of 16 bits

  /// Added to a number below 2²², it leaves the nearest integer in the lowest bits.
  private var roundingShift: Numbers { Numbers(repeating: 0x1.8p23) }

  @inline(never)
  func quantizeRow<V: KernelVector>(
    _ row: UnsafePointer<V.Lane>, _ count: Int, _ factor: V.Lane, _ output: UnsafeMutablePointer<Int32>,
    _ pairs: Int,
    as: V.Type
  ) -> Double {
    var errors = Numbers(repeating: 0)
    var index = 0
    while index < 2 * pairs {
      let x = scaled(row + index, max(0, min(16, count - index)), factor, as: V.self)
      let shifted = x + roundingShift
      let error = x - (shifted - roundingShift)
      errors = Numbers.multiplyAdd(error, error, errors)
      let bits = unsafeBitCast(shifted, to: SIMD16<UInt32>.self)
      let packed = (bits.evenHalf & 0xffff) | (bits.oddHalf &<< 16)
      UnsafeMutableRawPointer(output + index / 2).storeBytes(of: packed, as: SIMD8<UInt32>.self)
      index += 16
    }
    return errors.total
  }

  @inline(__always)
  private func scaled<V: KernelVector>(
    _ source: UnsafePointer<V.Lane>, _ count: Int, _ factor: V.Lane, as: V.Type
  ) -> Numbers {
    if V.Lane.self == Float.self {
      return unsafeBitCast(loadRest(source, count, as: V.self) * V(lane: factor), to: Numbers.self)
    }
    var result = Numbers(repeating: 0)
    for lane in 0..<count { result[lane] = Float(widen(source[lane] * factor)) }
    return result
  }

  @inline(never)
  func packPanel(
    _ rows: UnsafePointer<Int32>, _ pairs: Int, _ panel: UnsafeMutablePointer<Int32>,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    let source = UnsafeRawPointer(rows).assumingMemoryBound(to: Float.self)
    let target = UnsafeMutableRawPointer(panel).assumingMemoryBound(to: Float.self)
    var pair = 0
    while pair < pairs {
      transpose(scratch, as: Numbers.self) {
        Numbers.load(source + $0 * pairs + pair)
      } store: {
        $1.store(target + (pair + $0) * ScreeningTile.panelColumns)
      }
      pair += Numbers.laneCount
    }
  }

  /// sum + x₀·y₀ + x₁·y₁ of the two integers of 16 bits in each lane.
  @inline(__always)
  private func multiplyAddPairs(_ x: Integers, _ y: Integers, _ sum: Integers) -> Integers {
    #if BATCHLOSS_X86_V4
      return sum
        &+ unsafeBitCast(
          _mm512_madd_epi16(unsafeBitCast(x, to: SIMD8<Int64>.self), unsafeBitCast(y, to: SIMD8<Int64>.self)),
          to: Integers.self)
    #else
      @inline(__always)
      func half(_ x: SIMD8<Int32>, _ y: SIMD8<Int32>) -> SIMD8<Int32> {
        unsafeBitCast(
          _mm256_madd_epi16(unsafeBitCast(x, to: SIMD4<Int64>.self), unsafeBitCast(y, to: SIMD4<Int64>.self)),
          to: SIMD8<Int32>.self)
      }
      return sum &+ Integers(lowHalf: half(x.lowHalf, y.lowHalf), highHalf: half(x.highHalf, y.highHalf))
    #endif
  }

  // MARK: Squared distances

  #if BATCHLOSS_X86_V4
    /// Rows worked on at once: their sums, two vectors each, fit the registers.
    private let rowsAtOnce = 8
  #else
    private let rowsAtOnce = 4
  #endif

  @inline(__always)
  private func load(_ source: UnsafePointer<Int32>) -> Integers {
    UnsafeRawPointer(source).loadUnaligned(as: Integers.self)
  }

  /// ‖x‖² + ‖y‖² − 2·x·y of a few rows and the columns of a panel.
  @inline(never)
  private func squares(_ row: Int, _ panel: Int, _ tile: ScreeningTile) {
    let columns = tile.panels + panel * tile.panelStride
    let (r0, stride) = (tile.rowPairs + row * tile.rowStride, tile.rowStride)
    let (r1, r2, r3) = (r0 + stride, r0 + 2 * stride, r0 + 3 * stride)
    let zero = Integers(repeating: 0)
    let first = panel * ScreeningTile.panelColumns
    @inline(__always)
    func finish(_ row: Int, _ half: Int, _ products: Integers) {
      let column = first + 16 * half
      let norms = Numbers(repeating: tile.rowNorms[row]) + Numbers.load(tile.columnNorms + column)
      Numbers.multiplyAdd(Numbers(repeating: -2), Numbers.converting(products), norms)
        .store(tile.squares + row * tile.stride + column)
    }
    #if BATCHLOSS_X86_V4
      let (r4, r5, r6, r7) = (r3 + stride, r3 + 2 * stride, r3 + 3 * stride, r3 + 4 * stride)
      var (a0, a1, a2, a3, a4, a5, a6, a7) = (zero, zero, zero, zero, zero, zero, zero, zero)
      var (b0, b1, b2, b3, b4, b5, b6, b7) = (zero, zero, zero, zero, zero, zero, zero, zero)
      for pair in 0..<tile.pairs {
        let (low, high) = (load(columns + 32 * pair), load(columns + (32 * pair + 16)))
        @inline(__always)
        func add(_ row: UnsafePointer<Int32>, _ a: inout Integers, _ b: inout Integers) {
          let x = Integers(repeating: row[pair])
          a = multiplyAddPairs(x, low, a)
          b = multiplyAddPairs(x, high, b)
        }
        add(r0, &a0, &b0)
        add(r1, &a1, &b1)
        add(r2, &a2, &b2)
        add(r3, &a3, &b3)
        add(r4, &a4, &b4)
        add(r5, &a5, &b5)
        add(r6, &a6, &b6)
        add(r7, &a7, &b7)
      }
      finish(row, 0, a0)
      finish(row, 1, b0)
      finish(row + 1, 0, a1)
      finish(row + 1, 1, b1)
      finish(row + 2, 0, a2)
      finish(row + 2, 1, b2)
      finish(row + 3, 0, a3)
      finish(row + 3, 1, b3)
      finish(row + 4, 0, a4)
      finish(row + 4, 1, b4)
      finish(row + 5, 0, a5)
      finish(row + 5, 1, b5)
      finish(row + 6, 0, a6)
      finish(row + 6, 1, b6)
      finish(row + 7, 0, a7)
      finish(row + 7, 1, b7)
    #else
      for half in 0..<2 {
        var (a0, a1, a2, a3) = (zero, zero, zero, zero)
        for pair in 0..<tile.pairs {
          let column = load(columns + (32 * pair + 16 * half))
          a0 = multiplyAddPairs(Integers(repeating: r0[pair]), column, a0)
          a1 = multiplyAddPairs(Integers(repeating: r1[pair]), column, a1)
          a2 = multiplyAddPairs(Integers(repeating: r2[pair]), column, a2)
          a3 = multiplyAddPairs(Integers(repeating: r3[pair]), column, a3)
        }
        finish(row, half, a0)
        finish(row + 1, half, a1)
        finish(row + 2, half, a2)
        finish(row + 3, half, a3)
      }
    #endif
  }

  // MARK: Lists

  @inline(never)
  func screenTile(_ tile: ScreeningTile) {
    let panels = (tile.columns + ScreeningTile.panelColumns - 1) / ScreeningTile.panelColumns
    for panel in 0..<panels {
      var row = 0
      while row < tile.rows {
        squares(row, panel, tile)
        row += rowsAtOnce
      }
    }
    guard let positives = tile.columnPositives, let negatives = tile.columnNegatives else {
      // A row is no partner of itself.
      for row in 0..<tile.rows { tile.squares[row * tile.stride + row] = .nan }
      for row in 0..<tile.rows { screenRow(row, tile) }
      return
    }
    for row in 0..<tile.rows { screenRow(row, tile) }
    var column = 0
    while column < tile.columns {
      screenColumns(column, tile, positives, negatives)
      column += Numbers.laneCount
    }
  }

  /// The extremes of a row first; a list is looked at only where one of them can be on it.
  @inline(never)
  private func screenRow(_ row: Int, _ tile: ScreeningTile) {
    let (lowest, infinity) = (Numbers(repeating: -.infinity), Numbers(repeating: .infinity))
    let (squares, label) = (
      UnsafePointer(tile.squares + row * tile.stride), Numbers(repeating: tile.rowLabels[row])
    )
    var (far, near) = (lowest, infinity)
    var column = 0
    while column < tile.columns {
      let (square, isSame) = (Numbers.load(squares + column), Numbers.load(tile.columnLabels + column) .== label)
      far = Numbers.maximum(far, lowest.replacing(with: square, where: isSame))
      near = Numbers.minimum(near, square.replacing(with: infinity, where: isSame))
      column += Numbers.laneCount
    }
    if raise(tile.rowPositives, row, far.largest, tile.margin) { keepPositives(row, tile) }
    if raise(tile.rowNegatives, row, (Numbers(repeating: 0) - near).largest, tile.margin) {
      keepNegatives(row, tile)
    }
  }

  @inline(never)
  private func keepPositives(_ row: Int, _ tile: ScreeningTile) {
    let (squares, label) = (
      UnsafePointer(tile.squares + row * tile.stride), Numbers(repeating: tile.rowLabels[row])
    )
    let least = Numbers(repeating: tile.rowPositives.best[row] - tile.margin)
    var column = 0
    while column < tile.columns {
      let (square, labels) = (Numbers.load(squares + column), Numbers.load(tile.columnLabels + column))
      if Numbers.count((labels .== label) .& (least .<= square)) > 0 {
        addToRow(row, column, tile, isPositive: true)
      }
      column += Numbers.laneCount
    }
  }

  @inline(never)
  private func keepNegatives(_ row: Int, _ tile: ScreeningTile) {
    let (squares, label) = (
      UnsafePointer(tile.squares + row * tile.stride), Numbers(repeating: tile.rowLabels[row])
    )
    let most = Numbers(repeating: tile.margin - tile.rowNegatives.best[row])
    var column = 0
    while column < tile.columns {
      let (square, labels) = (Numbers.load(squares + column), Numbers.load(tile.columnLabels + column))
      if Numbers.count(.!(labels .== label) .& (square .<= most)) > 0 {
        addToRow(row, column, tile, isPositive: false)
      }
      column += Numbers.laneCount
    }
  }

  /// The same with columns in the lanes.
  @inline(never)
  private func screenColumns(
    _ column: Int, _ tile: ScreeningTile, _ positives: ScreeningList, _ negatives: ScreeningList
  ) {
    let (lowest, infinity) = (Numbers(repeating: -.infinity), Numbers(repeating: .infinity))
    let labels = Numbers.load(tile.columnLabels + column)
    var (far, near) = (lowest, infinity)
    for row in 0..<tile.rows {
      let square = Numbers.load(UnsafePointer(tile.squares + (row * tile.stride + column)))
      let isSame = labels .== Numbers(repeating: tile.rowLabels[row])
      far = Numbers.maximum(far, lowest.replacing(with: square, where: isSame))
      near = Numbers.minimum(near, square.replacing(with: infinity, where: isSame))
    }
    let lanes = min(Numbers.laneCount, tile.columns - column)
    if raise(positives, column, lanes, far, tile.margin) { keepPositives(column, lanes, tile, positives) }
    if raise(negatives, column, lanes, Numbers(repeating: 0) - near, tile.margin) {
      keepNegatives(column, lanes, tile, negatives)
    }
  }

  @inline(never)
  private func keepPositives(_ column: Int, _ lanes: Int, _ tile: ScreeningTile, _ list: ScreeningList) {
    let labels = Numbers.load(tile.columnLabels + column)
    let least = Numbers.load(UnsafePointer(list.best + column)) - Numbers(repeating: tile.margin)
    for row in 0..<tile.rows {
      let square = Numbers.load(UnsafePointer(tile.squares + (row * tile.stride + column)))
      if Numbers.count((labels .== Numbers(repeating: tile.rowLabels[row])) .& (least .<= square)) > 0 {
        addToColumns(row, column, lanes, tile, list, isPositive: true)
      }
    }
  }

  @inline(never)
  private func keepNegatives(_ column: Int, _ lanes: Int, _ tile: ScreeningTile, _ list: ScreeningList) {
    let labels = Numbers.load(tile.columnLabels + column)
    let most = Numbers(repeating: tile.margin) - Numbers.load(UnsafePointer(list.best + column))
    for row in 0..<tile.rows {
      let square = Numbers.load(UnsafePointer(tile.squares + (row * tile.stride + column)))
      if Numbers.count(.!(labels .== Numbers(repeating: tile.rowLabels[row])) .& (square .<= most)) > 0 {
        addToColumns(row, column, lanes, tile, list, isPositive: false)
      }
    }
  }

  /// Takes a score for the best of a row; false where nothing near it can be one of the list.
  @inline(__always)
  private func raise(_ list: ScreeningList, _ row: Int, _ score: Float, _ margin: Float) -> Bool {
    let best = list.best[row]
    guard score > -.infinity, score >= best - margin else { return false }
    // All that is kept has fallen behind.
    if score - margin > best { list.counts[row] = 0 }
    list.best[row] = max(best, score)
    return true
  }

  /// The same for a vector of rows.
  @inline(__always)
  private func raise(_ list: ScreeningList, _ row: Int, _ lanes: Int, _ scores: Numbers, _ margin: Float) -> Bool {
    let best = Numbers.load(UnsafePointer(list.best + row))
    let reaches = (best - Numbers(repeating: margin) .<= scores) .& (Numbers(repeating: -.infinity) .< scores)
    guard Numbers.count(reaches) > 0 else { return false }
    var isRaised = false
    for lane in 0..<lanes where raise(list, row + lane, scores[lane], margin) { isRaised = true }
    return isRaised
  }

  @inline(never)
  private func addToRow(_ row: Int, _ column: Int, _ tile: ScreeningTile, isPositive: Bool) {
    for column in column..<min(column + Numbers.laneCount, tile.columns) {
      add(
        row, column, tile, tile.firstColumn + column, to: isPositive ? tile.rowPositives : tile.rowNegatives, row,
        isPositive)
    }
  }

  @inline(never)
  private func addToColumns(
    _ row: Int, _ column: Int, _ lanes: Int, _ tile: ScreeningTile, _ list: ScreeningList, isPositive: Bool
  ) {
    for column in column..<column + lanes {
      add(row, column, tile, tile.firstRow + row, to: list, column, isPositive)
    }
  }

  /// Puts a pair on the list of one of its rows, if it belongs there.
  @inline(__always)
  private func add(
    _ row: Int, _ column: Int, _ tile: ScreeningTile, _ partner: Int, to list: ScreeningList, _ owner: Int,
    _ isPositive: Bool
  ) {
    let square = tile.squares[row * tile.stride + column]
    let score = isPositive ? square : -square
    guard (tile.rowLabels[row] == tile.columnLabels[column]) == isPositive, score >= list.best[owner] - tile.margin
    else { return }
    add(partner, score, to: list, owner, tile.margin)
  }

  @inline(never)
  private func add(_ partner: Int, _ score: Float, to list: ScreeningList, _ row: Int, _ margin: Float) {
    var count = Int(list.counts[row])
    guard count >= 0 else { return }
    let first = row * ScreeningList.capacity
    if count == ScreeningList.capacity {
      count = 0
      for index in first..<first + ScreeningList.capacity where list.scores[index] >= list.best[row] - margin {
        list.partners[first + count] = list.partners[index]
        list.scores[first + count] = list.scores[index]
        count += 1
      }
      guard count < ScreeningList.capacity else {
        list.counts[row] = -1
        return
      }
    }
    list.partners[first + count] = Int32(truncatingIfNeeded: partner)
    list.scores[first + count] = score
    list.counts[row] = Int32(truncatingIfNeeded: count + 1)
  }
#endif
