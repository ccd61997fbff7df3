import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``SigLIPLoss``.
///
/// A pair needs nothing of any other, so one sweep over tiles gives the losses and the gradients of both sides.
struct SigLIPEvaluation<Scalar: LossScalar> {
  let similarity: SimilarityEvaluation<Scalar>
  let bias: Double

  @_specialize(where Scalar == Float)
  @_specialize(where Scalar == Double)
  func run() throws(BatchLossError) -> SimilarityResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let (count, engine) = (similarity.queries.rows, similarity.engine)
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let (sweep, results) = workspace.arrays { arena in
      let tile = similarity.tile(kernels, &arena)
      return (
        TileSweep(tile, engine: engine, isSymmetric: false, &arena), arena.array(of: RowResult.self, count)
      )
    }
    sweep.tile.queries.prepare(kernels, engine)
    sweep.tile.keys.prepare(kernels, engine)
    similarity.queryGradient?.fill(0)
    similarity.keyGradient?.fill(0)
    results.initialize(repeating: RowResult(), count: count)
    let (a, b) = (Scalar(similarity.scale), Scalar(bias))
    sweep.run(queryGradient: similarity.queryGradient, keyGradient: similarity.keyGradient) { tile in
      for row in tile.rows {
        let positive = tile.columns.contains(row) ? row - tile.columns.lowerBound : -1
        let sums = kernels.similarities.sigmoid(tile.row(row), tile.columns.count, a, b, positive)
        let result = results + row
        result.pointee.loss += sums.loss
        result.pointee.weightSum += sums.weight
        result.pointee.weighted += sums.weighted
      }
    }

    for row in 0..<count {
      let result = results[row]
      results[row] = RowResult(ofOneLoss: result.loss, weightSum: result.weightSum, weighted: result.weighted)
      similarity.losses?[row] = Scalar(results[row].loss)
    }
    return similarity.finish(results.total(count), sweep.tile)
  }
}
