import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``InfoNCELoss`` with queries and keys.
///
/// Groups of queries follow one another. A tile of e^(a·s − shift) gives e·K to its queries at once, since their
/// normaliser Z is a factor of the whole row; when all tiles of the group are there and Z is known, they give eᵀ·(Q/Z) to
/// the keys. The own pair of a query is kept apart, so that 1 − its probability does not cancel. Long ranges of logits
/// take the way of whole rows.
struct InfoNCEEvaluation<Scalar: LossScalar> {
  let similarity: SimilarityEvaluation<Scalar>

  /// The tiles of some queries with all keys.
  private struct Group {
    let queries: Range<Int>
    let blocks: BlockPartition
    let keyBlocks: BlockPartition
    let tiles: UnsafeMutablePointer<Scalar>
    let stride: Int
    /// Q/Z.
    let scaled: RowPanels<Scalar>

    func tile(_ block: Int, _ keyBlock: Int) -> UnsafeMutablePointer<Scalar> {
      tiles + (block * keyBlocks.blocks + keyBlock) * blocks.blockSize * stride
    }

    /// All of a tile, if there is one.
    func memory(_ block: Int, _ keyBlock: Int) -> UnsafeRawBufferPointer? {
      guard block < blocks.blocks, keyBlock < keyBlocks.blocks else { return nil }
      let count = blocks[block].count * stride
      return UnsafeRawBufferPointer(UnsafeBufferPointer(start: tile(block, keyBlock), count: count))
    }

    func rows(_ block: Int) -> Range<Int> {
      let rows = blocks[block]
      return queries.lowerBound + rows.lowerBound..<queries.lowerBound + rows.upperBound
    }
  }

  /// Memory of a call.
  private struct Layout {
    let tile: PairTile<Scalar>
    let groups: BlockPartition
    let tiles: UnsafeMutablePointer<Scalar>
    /// For Q/Z of a group.
    let scaled: UnsafeMutablePointer<Scalar>
    let own: UnsafeMutablePointer<OwnPair>
    let sums: UnsafeMutablePointer<ExponentialSums>
  }

  @_specialize(where Scalar == Float)
  @_specialize(where Scalar == Double)
  func run() throws(BatchLossError) -> SimilarityResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let (queries, keys, engine) = (similarity.queries, similarity.keys ?? similarity.queries, similarity.engine)
    let blockSize = TileSweep<Scalar>.blockSize(keys.rows)
    let stride = blockSize + 16
    let keyBlocks = BlockPartition(of: keys.rows, blockSize: blockSize)
    // Four blocks for the workers to share, 16 MiB if that is more. Where the budget has no room for them blocks have fewer
    // rows: three would leave one of two workers idle for a quarter of the time.
    let budget = engine.configuration.workspaceBudget
    let rowBytes = max(1, keyBlocks.blocks * stride * MemoryLayout<Scalar>.stride)
    let blockRows = min(blockSize, max(64, budget / 4 / rowBytes & ~15))
    let blocks = max(1, min(max(4, (16 << 20) / (blockRows * rowBytes)), budget / (blockRows * rowBytes)))
    let groupRows = min(blocks * blockRows, (queries.rows + blockRows - 1) / blockRows * blockRows)
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let layout = workspace.arrays { arena in
      let fit = RowPanels.fit(keys, engine)
      let first = PackedRows(queries, similarity.preparation, &arena)
      let second = PackedRows(
        keys, similarity.preparation,
        keyBlocks: fit && queries.rows >= KeyBlocks<Scalar>.fewestQueries ? (blockSize, .panels) : nil,
        rowPanels: fit && similarity.queryGradient != nil, &arena)
      return Layout(
        tile: PairTile(queries: first, keys: second, distance: nil, kernels: kernels),
        groups: BlockPartition(of: queries.rows, blockSize: groupRows),
        tiles: arena.array(of: Scalar.self, groupRows * keyBlocks.blocks * stride),
        scaled: arena.array(
          of: Scalar.self, ProductKernels<Scalar>.panelCount(rows: groupRows, columns: queries.columns)),
        own: arena.array(of: OwnPair.self, queries.rows),
        sums: arena.array(of: ExponentialSums.self, queries.rows))
    }
    layout.tile.queries.prepare(kernels, engine)
    layout.tile.keys.prepare(kernels, engine)
    let shift = SharedShift.find(layout.tile.queries, layout.tile.keys, scale: similarity.scale, kernels)
    guard let shift else { return try runRows() }
    layout.sums.initialize(repeating: ExponentialSums(), count: queries.rows)
    similarity.queryGradient?.fill(0)
    similarity.keyGradient?.fill(0)
    for index in 0..<layout.groups.blocks {
      let count = layout.groups[index].count
      let group = Group(
        queries: layout.groups[index], blocks: BlockPartition(of: count, blockSize: blockRows),
        keyBlocks: keyBlocks, tiles: layout.tiles, stride: stride,
        scaled: RowPanels(rows: count, columns: queries.columns, blockSize: blockRows, in: layout.scaled))
      engine.forEachBlock(group.blocks.blocks) { block, workspace in
        let (cancelled, panels, scaled) = workspace.arrays { arena in
          (
            arena.array(of: Int32.self, PairTile<Scalar>.columnsPerProduct),
            arena.array(
              of: Scalar.self, similarity.queryGradient == nil ? 0 : layout.tile.keys.sumScratchCount),
            arena.array(of: Scalar.self, similarity.keyGradient == nil ? 0 : blockRows * queries.columns)
          )
        }
        addToQueries(group, block, layout, shift, cancelled, panels, scaled)
      }
      if let gradient = similarity.keyGradient {
        engine.forEachBlock(keyBlocks.blocks) { block, _ in addToKeys(group, block, layout, gradient) }
      }
    }

    var total = RowResult()
    for row in 0..<queries.rows {
      let (pair, sums) = (layout.own[row], layout.sums[row])
      let loss = pair.loss(others: sums.sum)
      total.loss += loss
      if loss > 0 { total.active += 1 }
      total.weighted +=
        sums.product / (sums.sum + pair.power) - pair.rest(others: sums.sum) * pair.similarity
      similarity.losses?[row] = Scalar(loss)
    }
    total.valid = queries.rows
    return similarity.finish(total, layout.tile)
  }

  /// The exponentials of a block of queries with all keys, their sums, and the gradient of the queries.
  private func addToQueries(
    _ group: Group, _ block: Int, _ layout: Layout, _ shift: Scalar, _ cancelled: UnsafeMutablePointer<Int32>,
    _ panels: UnsafeMutablePointer<Scalar>, _ scaled: UnsafeMutablePointer<Scalar>
  ) {
    let (rows, a, kernels) = (group.rows(block), Scalar(similarity.scale), layout.tile.kernels)
    for keyBlock in 0..<group.keyBlocks.blocks {
      let (columns, values) = (group.keyBlocks[keyBlock], group.tile(block, keyBlock))
      layout.tile.fill(rows: rows, columns: columns, values, stride: group.stride, cancelled: cancelled)
      for row in rows where columns.contains(row) {
        let own = values + ((row - rows.lowerBound) * group.stride + row - columns.lowerBound)
        layout.own[row] = OwnPair(taking: own, scale: similarity.scale, shift: shift)
      }
      kernels.similarities.exponentialTile(
        ExponentialTile(
          values: UnsafePointer(values), output: values, stride: group.stride, rows: rows.count,
          columns: columns.count, a: a, shift: shift, rowSums: layout.sums + rows.lowerBound))
      if let gradient = similarity.queryGradient {
        layout.tile.keys.add(
          columns, weightedBy: Factor(UnsafePointer(values), stride: group.stride), to: gradient[rows], kernels,
          scratch: panels, ahead: group.memory(block, keyBlock + 1))
      }
    }
    let depth = layout.tile.queries.columns
    for row in rows {
      let (pair, others) = (layout.own[row], layout.sums[row].sum)
      let factor = Scalar(1 / (others + pair.power))
      if let gradient = similarity.queryGradient {
        let output = gradient.pointer(row, 0)
        kernels.rows.combine(
          factor, UnsafePointer(output), Scalar(-pair.rest(others: others)),
          UnsafePointer(layout.tile.keys.pointer(row)), output, depth)
      }
      guard similarity.keyGradient != nil else { continue }
      kernels.rows.scale(
        UnsafePointer(layout.tile.queries.pointer(row)), nil, factor,
        scaled + (row - rows.lowerBound) * depth, depth)
    }
    if similarity.keyGradient != nil { group.scaled.fill(block, from: UnsafePointer(scaled), kernels) }
  }

  /// What a group of queries gives to a block of keys.
  private func addToKeys(_ group: Group, _ keyBlock: Int, _ layout: Layout, _ gradient: RowMajor<Scalar>) {
    let (keys, kernels) = (group.keyBlocks[keyBlock], layout.tile.kernels)
    for block in 0..<group.blocks.blocks {
      group.scaled.add(
        group.blocks[block],
        weightedBy: Factor(UnsafePointer(group.tile(block, keyBlock)), stride: group.stride, transposed: true),
        to: gradient[keys], kernels,
        ahead: group.memory(block + 1, keyBlock) ?? group.memory(0, keyBlock + 1))
    }
    for row in keys where group.queries.contains(row) {
      let output = gradient.pointer(row, 0)
      kernels.rows.combine(
        1, UnsafePointer(output), Scalar(-layout.own[row].rest(others: layout.sums[row].sum)),
        UnsafePointer(layout.tile.queries.pointer(row)), output, gradient.columns)
    }
  }

  /// A row of similarities after another, for logits of any range.
  private func runRows() throws(BatchLossError) -> SimilarityResult {
    let (scale, count) = (Scalar(similarity.scale), (similarity.keys ?? similarity.queries).rows)
    return try similarity.run { context in
      { row, similarities, _ in
        // The logit as the kernel rounds it: a query that is certain of its key costs 0.
        let (positive, logit) = (Double(similarities[row]), Double(scale * similarities[row]))
        let (logSum, mean) = context.kernels.softmax(
          similarities, count, similarity.scale, ColumnSelection(.all))
        similarities[row] -= 1
        return RowResult(ofOneLoss: logSum - logit, weighted: mean - positive)
      }
    }
  }
}
