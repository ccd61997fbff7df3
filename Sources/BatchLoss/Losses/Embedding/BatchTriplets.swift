import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``TripletLoss`` whose triplets are all of a batch, or a semi-hard one for every positive pair.
struct BatchTriplets<Scalar: LossScalar> {
  let form: TripletForm
  let isSemiHard: Bool
  let batch: LabelledBatch<Scalar>

  @_specialize(where Scalar == Float)
  @_specialize(where Scalar == Double)
  func run(_ classes: UnsafeBufferPointer<Int32>) throws(BatchLossError) -> MiningResult {
    let rows = batch.embeddings.rows
    let scratch = Scratch(rows: rows)
    return try batch.run(classes, scratch: (scratch.count, rows)) { context in
      let classes = context.labels
      var valid = 0
      for row in 0..<rows {
        let (positives, negatives) = (classes.positives(of: row), classes.negatives(of: row))
        valid += isSemiHard ? (negatives > 0 ? positives : 0) : positives * negatives
      }
      return BatchPlan(valid: valid) { row, distances, memory, columns in
        anchor(row, distances, memory, columns, scratch, context)
      }
    }
  }

  /// Where the arrays of a row are, in scalars from the start of a worker's memory.
  private struct Scratch {
    let step: Int
    let count: Int

    init(rows: Int) {
      step = (rows + 95) & ~31
      let doubles = 4 * (rows + 1) * (MemoryLayout<Double>.stride / MemoryLayout<Scalar>.stride)
      count = 5 * step + 128 + doubles
    }
  }

  private func anchor(
    _ anchor: Int, _ distances: UnsafeMutablePointer<Scalar>, _ memory: UnsafeMutablePointer<Scalar>,
    _ columns: UnsafeMutablePointer<Int32>, _ scratch: Scratch, _ context: BatchContext<Scalar>
  ) -> RowResult {
    let (labels, kernels) = (context.labels, context.kernels.triplets)
    func part(_ index: Int) -> UnsafeMutablePointer<Scalar> { memory + index * scratch.step }
    let (positives, negatives) = (labels.positives(of: anchor), labels.negatives(of: anchor))
    guard positives > 0, negatives > 0 else {
      distances.update(repeating: 0, count: labels.count)
      return RowResult()
    }
    let start = Int(labels.starts[Int(labels.classes[anchor])])
    var found = 0
    for index in start...start + positives where Int(labels.members[index]) != anchor {
      columns[found] = labels.members[index]
      found += 1
    }
    let row = TripletRow(
      distances: distances, labels: UnsafePointer(labels.values), label: labels.values[anchor],
      count: labels.count, positiveColumns: UnsafePointer(columns), anchor: anchor, thresholds: part(1),
      sorted: part(2), numbers: part(5), counts: part(5) + 64, pivots: part(3), positives: positives,
      weights: part(0),
      sums: UnsafeMutableRawPointer(part(5) + 128).assumingMemoryBound(to: Double.self))
    kernels.thresholds(row, isSemiHard ? 0 : Scalar(form.margin))
    let result: (loss: Double, active: Int)
    if !isSemiHard && form.shape == .softplus {
      result = kernels.everyPair(row)
    } else {
      if !kernels.sortFew(row) {
        row.sorted.update(from: row.thresholds, count: positives)
        AscendingSort.run(row.sorted, positives, scratch: part(4))
      }
      result =
        isSemiHard ? kernels.semiHard(row, form.shape, form.margin) : kernels.ranked(row, form.shape)
    }
    let weightSum = context.kernels.distances.chain(
      distances, UnsafePointer(row.weights), labels.count, batch.distance.form)
    return RowResult(loss: result.loss, weightSum: weightSum, active: result.active)
  }
}
