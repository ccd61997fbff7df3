/// The element-wise losses for which kernels are compiled ahead of time; a new one is added here.
///
/// - Parameter visitor: Is shown each type once.
@inlinable @inline(__always)
package func forEachElementwiseLoss(_ visitor: some ElementwiseLossVisitor) {
  visitor.visit(MeanSquaredError.self)
  visitor.visit(MeanAbsoluteError.self)
  visitor.visit(Huber.self)
  visitor.visit(SmoothL1.self)
  visitor.visit(inTwoStages: LogCosh.self)
  visitor.visit(Quantile.self)
  visitor.visit(Poisson.self)
  visitor.visit(Hinge.self)
  visitor.visit(SquaredHinge.self)
  visitor.visit(inTwoStages: BinaryCrossEntropy.self)
  visitor.visit(inTwoStages: BinaryCrossEntropyOfProbabilities.self)
  visitor.visit(inTwoStages: SigmoidFocal.self)
}

/// Receives each element-wise loss type of ``forEachElementwiseLoss(_:)``.
@usableFromInline
package protocol ElementwiseLossVisitor {
  func visit<Loss: ElementwiseLoss>(_ type: Loss.Type)
  func visit<Loss: TwoStageElementwiseLoss>(inTwoStages type: Loss.Type)
}

/// A loss whose formula is one long chain of dependent operations, cut in two: while the second stage of one vector is
/// under way, the first stage of a later one fills the pipelines.
@usableFromInline
package protocol TwoStageElementwiseLoss: ElementwiseLoss {
  /// The first stage.
  func firstStage<V: LossVector>(prediction: V, target: V) -> V

  /// The loss and its derivative, from what the first stage gave for the same prediction and target.
  func evaluate<V: LossVector>(prediction: V, target: V, firstStage: V) -> (loss: V, derivative: V)
}
