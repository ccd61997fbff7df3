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

    func tile(_ block: Int, _ keyBlock: Int) -> UnsafeMutablePointer<Scalar> {
      tiles + (block * keyBlocks.blocks + keyBlock) * blocks.blockSize * stride
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
    /// Q/Z of a group.
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
      let preparation: RowPreparation = similarity.normalizes ? .normalization : .none
      let first = PackedRows(queries, preparation, &arena)
      let second = PackedRows(keys, preparation, &arena)
      return Layout(
        tile: PairTile(queries: first, keys: second, distance: nil, kernels: kernels),
        groups: BlockPartition(of: queries.rows, blockSize: groupRows),
        tiles: arena.array(of: Scalar.self, groupRows * keyBlocks.blocks * stride),
        scaled: arena.array(of: Scalar.self, groupRows * queries.columns),
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
      let group = Group(
        queries: layout.groups[index], blocks: BlockPartition(of: layout.groups[index].count, blockSize: blockRows),
        keyBlocks: keyBlocks, tiles: layout.tiles, stride: stride)
      engine.forEachBlock(group.blocks.blocks) { block, workspace in
        let cancelled = workspace.buffer(of: Int32.self, count: PairTile<Scalar>.columnsPerProduct)
        addToQueries(group, block, layout, shift, cancelled)
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
    _ group: Group, _ block: Int, _ layout: Layout, _ shift: Scalar, _ cancelled: UnsafeMutablePointer<Int32>
  ) {
    let (rows, a, kernels) = (group.rows(block), Scalar(similarity.scale), layout.tile.kernels)
    for keyBlock in 0..<group.keyBlocks.blocks {
      let (columns, values) = (group.keyBlocks[keyBlock], group.tile(block, keyBlock))
      layout.tile.fill(rows: rows, columns: columns, values, stride: group.stride, cancelled: cancelled)
      for row in rows {
        let line = values + (row - rows.lowerBound) * group.stride
        if columns.contains(row) {
          layout.own[row] = OwnPair(
            taking: line + (row - columns.lowerBound), scale: similarity.scale, shift: shift)
        }
        let (sum, product) = kernels.similarities.sharedExponentials(
          UnsafePointer(line), columns.count, a, shift, line, false, nil, nil)
        layout.sums[row].sum += sum
        layout.sums[row].product += product
      }
      if let gradient = similarity.queryGradient {
        MatrixProduct.run(
          rows: rows.count, columns: gradient.columns, depth: columns.count,
          Factor(UnsafePointer(values), stride: group.stride), layout.tile.keys.factor(columns.lowerBound),
          adds: true, gradient.pointer(rows.lowerBound, 0), stride: gradient.stride)
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
      kernels.rows.scale(
        UnsafePointer(layout.tile.queries.pointer(row)), nil, factor,
        layout.scaled + (row - group.queries.lowerBound) * depth, depth)
    }
  }

  /// What a group of queries gives to a block of keys.
  private func addToKeys(_ group: Group, _ keyBlock: Int, _ layout: Layout, _ gradient: RowMajor<Scalar>) {
    let (keys, kernels) = (group.keyBlocks[keyBlock], layout.tile.kernels)
    for block in 0..<group.blocks.blocks {
      MatrixProduct.run(
        rows: keys.count, columns: gradient.columns, depth: group.blocks[block].count,
        Factor(UnsafePointer(group.tile(block, keyBlock)), stride: group.stride, transposed: true),
        Factor(
          UnsafePointer(layout.scaled + group.blocks[block].lowerBound * gradient.columns),
          stride: max(1, gradient.columns)), adds: true, gradient.pointer(keys.lowerBound, 0),
        stride: gradient.stride)
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
