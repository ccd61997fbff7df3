/// The element-wise losses for which kernels are compiled ahead of time; a new one is added here.
///
/// - Parameter visitor: Is shown each type once.
@inlinable @inline(__always)
package func forEachElementwiseLoss(_ visitor: some ElementwiseLossVisitor) {
  visitor.visit(MeanSquaredError.self)
  visitor.visit(MeanAbsoluteError.self)
  visitor.visit(Huber.self)
  visitor.visit(SmoothL1.self)
  visitor.visit(LogCosh.self)
  visitor.visit(Quantile.self)
  visitor.visit(Poisson.self)
  visitor.visit(Hinge.self)
  visitor.visit(SquaredHinge.self)
  visitor.visit(BinaryCrossEntropy.self)
  visitor.visit(BinaryCrossEntropyOfProbabilities.self)
  visitor.visit(SigmoidFocal.self)
}

/// Receives each element-wise loss type of ``forEachElementwiseLoss(_:)``.
@usableFromInline
package protocol ElementwiseLossVisitor {
  func visit<Loss: ElementwiseLoss>(_ type: Loss.Type)
}
