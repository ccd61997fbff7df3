import BatchLossKernelInterface

/// The farthest row of the same class and the nearest of another one, for every row of a batch, found without distances
/// of all pairs in the scalar type.
///
/// Rows are rounded to integers of 16 bits, whose products take half the time of `Float`. With q = σ·x − e the product of
/// two rows is known within ‖e‖·(2·‖σx‖ + ‖e‖), some 2·10⁻⁴ of the longest row's square at 128 columns. Every partner
/// that can be the hardest one within that is kept, and of several the distances are computed from the rows themselves.
/// So the choice is that of exact distances; the lowest row wins among equals.
struct HardestPairs<Scalar: LossScalar> {
  private let tile: PairTile<Scalar>
  private let kernels: ScreeningKernels<Scalar>
  private let labels: BatchLabels<Scalar>
  private let engine: Engine
  private let schedule: TileSchedule
  private let blockSize: Int
  /// Two integers each; rows and panels of `pairStride` pairs.
  private let rowPairs: UnsafeMutablePointer<Int32>
  private let panels: UnsafeMutablePointer<Int32>
  private let errors: UnsafeMutablePointer<Double>
  private let norms: UnsafeMutablePointer<Float>
  private let classes: UnsafeMutablePointer<Float>
  private let positives: ScreeningList
  private let negatives: ScreeningList
  /// The margin between scores within which either can be the better one.
  private let margin: UnsafeMutablePointer<Float>

  /// The length that the longest row is scaled to. Products are below its square and therefore below 2³¹.
  private static var radius: Double { 32000 }

  private var rows: PackedRows<Scalar> { tile.queries }
  private var pairs: Int { (rows.columns + 1) / 2 }
  private var pairStride: Int { Self.pairStride(rows.columns) }
  private static func pairStride(_ columns: Int) -> Int { ((columns + 1) / 2 + 15) & ~15 }
  private var paddedRows: Int { Self.padded(rows.rows) }
  private static func padded(_ rows: Int) -> Int {
    (rows + ScreeningTile.panelColumns - 1) / ScreeningTile.panelColumns * ScreeningTile.panelColumns
  }

  /// `nil` where the processor does not screen.
  init?(_ tile: PairTile<Scalar>, labels: BatchLabels<Scalar>, engine: Engine, _ arena: inout Arena) {
    guard let kernels = tile.kernels.screening else { return nil }
    self.tile = tile
    self.kernels = kernels
    self.labels = labels
    self.engine = engine
    let (count, columns) = (tile.queries.rows, tile.queries.columns)
    blockSize = TileSweep<Scalar>.blockSize(count)
    schedule = TileSchedule(symmetric: BlockPartition(of: count, blockSize: blockSize).blocks)
    let padded = Self.padded(count)
    let stride = Self.pairStride(columns)
    rowPairs = arena.array(of: Int32.self, padded * stride)
    panels = arena.array(of: Int32.self, padded * stride)
    errors = arena.array(of: Double.self, padded)
    norms = arena.array(of: Float.self, padded)
    classes = arena.array(of: Float.self, padded)
    margin = arena.array(of: Float.self, 1)
    func list(_ arena: inout Arena) -> ScreeningList {
      ScreeningList(
        best: arena.array(of: Float.self, padded), counts: arena.array(of: Int32.self, padded),
        partners: arena.array(of: Int32.self, padded * ScreeningList.capacity),
        scores: arena.array(of: Float.self, padded * ScreeningList.capacity))
    }
    positives = list(&arena)
    negatives = list(&arena)
  }

  /// Looks at all pairs. False where that does not serve: numbers that are not finite or tiny, rows that are all equal,
  /// or so many partners at like distances that the exact ones of all pairs cost less.
  func find() -> Bool {
    var longest = 0.0
    for row in 0..<rows.rows {
      let square = Double(rows.squaredNorms[row])
      guard square.isFinite else { return false }
      longest = max(longest, square)
    }
    // Squares of tiny numbers have lost digits that the bound counts on.
    guard longest >= Double(max(1, rows.columns)) * Double(Scalar.leastNormalMagnitude) * 0x1p24 else {
      return false
    }
    let factor = Scalar(Self.radius / longest.squareRoot())
    quantize(factor)
    prepareLists()
    sweep()
    var crowded = 0
    for row in 0..<rows.rows where positives.counts[row] < 0 || negatives.counts[row] < 0 { crowded += 1 }
    return 64 * crowded <= rows.rows
  }

  /// The farthest positive of a row, −1 where it has none.
  func farthestPositive(of row: Int) -> Int { hardest(of: row, positives, isPositive: true) }

  /// The nearest negative of a row, −1 where it has none.
  func nearestNegative(of row: Int) -> Int { hardest(of: row, negatives, isPositive: false) }

  // MARK: Integers

  private func quantize(_ factor: Scalar) {
    let (count, stride, half) = (rows.rows, pairStride, ScreeningTile.panelColumns / 2)
    engine.forEachBlock(paddedRows / half) { block, workspace in
      let scratch = workspace.buffer(of: Float.self, count: half * half)
      for row in half * block..<half * (block + 1) {
        let output = rowPairs + row * stride
        guard row < count else {
          output.update(repeating: 0, count: stride)
          (norms[row], classes[row], errors[row]) = (.infinity, .nan, 0)
          continue
        }
        errors[row] = kernels.quantize(UnsafePointer(rows.pointer(row)), rows.columns, factor, output, stride)
        norms[row] = Float(Double(rows.squaredNorms[row]) * Double(factor) * Double(factor))
        classes[row] = Float(labels.classes[row])
      }
      // Two blocks make a panel.
      let panel = panels + (block / 2) * stride * ScreeningTile.panelColumns + block % 2 * half
      kernels.pack(UnsafePointer(rowPairs + half * block * stride), stride, panel, scratch)
    }
  }

  private func prepareLists() {
    var largest = 0.0
    for row in 0..<rows.rows { largest = max(largest, errors[row]) }
    // Rounding of x·σ adds to the errors; and of norms, centred rows and squares to the square.
    let error = 1.01 * largest.squareRoot() + 0.01 * Double(rows.columns).squareRoot()
    let square = 2 * error * (2 * Self.radius + error) + 8e-6 * Self.radius * Self.radius
    margin[0] = Float(2 * square)
    for list in [positives, negatives] {
      list.best.update(repeating: -.infinity, count: paddedRows)
      list.counts.update(repeating: 0, count: paddedRows)
    }
  }

  // MARK: Tiles

  private func sweep() {
    let blocks = BlockPartition(of: rows.rows, blockSize: blockSize)
    let stride = blockSize + 16
    schedule.forEachTile(engine) { row, column, _, workspace in
      let squares = workspace.buffer(of: Float.self, count: blockSize * stride)
      let (queries, keys) = (blocks[row], blocks[column])
      let (first, other) = (queries.lowerBound, keys.lowerBound)
      kernels.screen(
        ScreeningTile(
          rowPairs: UnsafePointer(rowPairs + first * pairStride), rowStride: pairStride,
          panels: UnsafePointer(panels + other * pairStride),
          panelStride: pairStride * ScreeningTile.panelColumns, pairs: pairs, rows: queries.count,
          columns: keys.count, firstRow: first, firstColumn: other, rowNorms: UnsafePointer(norms + first),
          rowLabels: UnsafePointer(classes + first), columnNorms: UnsafePointer(norms + other),
          columnLabels: UnsafePointer(classes + other), margin: margin[0], rowPositives: positives.from(first),
          rowNegatives: negatives.from(first), columnPositives: row == column ? nil : positives.from(other),
          columnNegatives: row == column ? nil : negatives.from(other), squares: squares, stride: stride))
    }
  }

  // MARK: The choice

  private func hardest(of row: Int, _ list: ScreeningList, isPositive: Bool) -> Int {
    var (chosen, best) = (-1, 0.0)
    func look(at other: Int) {
      let square = tile.squaredDifference(row, other)
      let score = isPositive ? square : -square
      if chosen < 0 || score > best || (score == best && other < chosen) { (chosen, best) = (other, score) }
    }
    guard list.counts[row] >= 0 else {
      let own = labels.classes[row]
      for other in 0..<rows.rows where other != row && (labels.classes[other] == own) == isPositive {
        look(at: other)
      }
      return chosen
    }
    let first = row * ScreeningList.capacity
    let kept = first..<first + Int(list.counts[row])
    let least = list.best[row] - margin[0]
    var (several, only) = (0, -1)
    for place in kept where list.scores[place] >= least {
      several += 1
      only = Int(list.partners[place])
    }
    if several <= 1 { return only }
    for place in kept where list.scores[place] >= least { look(at: Int(list.partners[place])) }
    return chosen
  }
}
