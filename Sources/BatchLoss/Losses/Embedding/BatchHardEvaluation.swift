import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``TripletLoss`` with the hardest triplet of each anchor.
///
/// Distances of all pairs only serve to choose. The loss of the chosen triplets and its gradient are computed from
/// the rows themselves. A gradient row is a sum over the triplets in which the row takes part, which its owner
/// adds in the order of their anchors.
struct BatchHardEvaluation<Scalar: LossScalar> {
  let form: TripletForm
  let batch: LabelledBatch<Scalar>

  /// A term difference·(x_owner − x_other) + own·x_owner of a gradient.
  private struct Term {
    var owner: Int32
    var other: Int32
    var difference: Double
    var own: Double
  }

  private static var termsPerTriplet: Int { 4 }

  func run<Label: FixedWidthInteger>(
    _ labels: UnsafeBufferPointer<Label>
  ) throws(BatchLossError) -> MiningResult {
    try batch.validate(labels: labels.count)
    let kernels = try KernelSelection.current.table(Scalar.self)
    let (rows, engine) = (batch.embeddings.rows, batch.engine)
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let count = Self.termsPerTriplet * rows
    let (sweep, classes, centre, terms, order, starts) = workspace.arrays { arena in
      let packed = PackedRows(batch.embeddings, batch.distance.preparation, &arena)
      let tile = PairTile(queries: packed, keys: packed, distance: batch.distance, kernels: kernels)
      return (
        RowSweep(tile, engine: engine, needsColumnSums: false, &arena),
        BatchLabels<Scalar>(count: rows, &arena), arena.array(of: Scalar.self, batch.embeddings.columns),
        arena.array(of: Term.self, count), arena.array(of: Int32.self, count),
        arena.array(of: Int32.self, rows + 2)
      )
    }
    classes.fill(labels)
    let packed = sweep.tile.queries
    if packed.preparation == .centering { packed.findCentre(kernels, engine, into: centre) }
    packed.prepare(kernels, engine, offset: UnsafePointer(centre))
    sweep.run { row, distances, _, _ in
      triplet(of: row, UnsafePointer(distances), classes, kernels, terms + Self.termsPerTriplet * row)
    }

    let total = sweep.total
    let divisor = batch.divisor(valid: total.valid, active: total.active)
    if let losses = batch.losses {
      for row in 0..<rows { losses[row] = Scalar(sweep.results[row].loss) }
    }
    if let gradient = batch.gradient {
      sort(terms, count, into: order, starts: starts, rows: rows)
      add(terms, order, starts, to: gradient, scale: divisor == 0 ? 0 : 1 / divisor, kernels, packed.partition)
    }
    return MiningResult(
      cost: Cost(sum: total.loss, denominator: divisor), valid: total.valid, active: total.active)
  }

  private func triplet(
    of anchor: Int, _ distances: UnsafePointer<Scalar>, _ classes: BatchLabels<Scalar>,
    _ kernels: KernelTable<Scalar>, _ terms: UnsafeMutablePointer<Term>
  ) -> RowResult {
    for index in 0..<Self.termsPerTriplet { terms[index] = Term(owner: -1, other: 0, difference: 0, own: 0) }
    let (positive, negative) = kernels.triplets.hardest(
      distances, UnsafePointer(classes.values), classes.values[anchor], classes.count, anchor)
    guard positive >= 0, negative >= 0 else { return RowResult() }
    func row(_ index: Int) -> UnsafePointer<Scalar> { UnsafePointer(batch.embeddings.pointer(index, 0)) }
    let result = kernels.triplets.terms(
      form, row(anchor), row(positive), row(negative), batch.embeddings.columns)
    let base = result.isSwapped ? positive : anchor
    func term(_ owner: Int, _ other: Int, _ difference: Double, _ own: Double) -> Term {
      Term(
        owner: Int32(truncatingIfNeeded: owner), other: Int32(truncatingIfNeeded: other),
        difference: difference, own: own)
    }
    terms[0] = term(anchor, positive, result.positiveDifference, result.anchorOwn)
    terms[1] = term(positive, anchor, result.positiveDifference, result.positiveOwn)
    terms[2] = term(base, negative, result.negativeDifference, result.baseOwn)
    terms[3] = term(negative, base, result.negativeDifference, result.negativeOwn)
    return RowResult(loss: result.loss, valid: 1, active: result.isActive ? 1 : 0)
  }

  /// Lists the terms of each owner, in order; those of row r are from `starts[r]` to `starts[r + 1]`.
  private func sort(
    _ terms: UnsafePointer<Term>, _ count: Int, into order: UnsafeMutablePointer<Int32>,
    starts: UnsafeMutablePointer<Int32>, rows: Int
  ) {
    starts.update(repeating: 0, count: rows + 2)
    for index in 0..<count where terms[index].owner >= 0 { starts[Int(terms[index].owner) + 2] += 1 }
    for row in 0..<rows { starts[row + 2] += starts[row + 1] }
    for index in 0..<count where terms[index].owner >= 0 {
      let owner = Int(terms[index].owner) + 1
      order[Int(starts[owner])] = Int32(truncatingIfNeeded: index)
      starts[owner] += 1
    }
  }

  private func add(
    _ terms: UnsafePointer<Term>, _ order: UnsafePointer<Int32>, _ starts: UnsafePointer<Int32>,
    to gradient: RowMajor<Scalar>, scale: Double, _ kernels: KernelTable<Scalar>, _ partition: BlockPartition
  ) {
    let embeddings = batch.embeddings
    batch.engine.forEachBlock(partition.blocks) { block, _ in
      for row in partition[block] {
        let output = gradient.pointer(row, 0)
        output.update(repeating: 0, count: gradient.columns)
        for place in Int(starts[row])..<Int(starts[row + 1]) {
          let term = terms[Int(order[place])]
          if term.difference == 0 && term.own == 0 { continue }
          kernels.rows.addDifference(
            Scalar(scale * term.difference), Scalar(scale * term.own), UnsafePointer(embeddings.pointer(row, 0)),
            UnsafePointer(embeddings.pointer(Int(term.other), 0)), output, gradient.columns)
        }
      }
    }
  }
}
