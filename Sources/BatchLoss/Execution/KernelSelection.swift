import BatchLossFormulas
import BatchLossKernelInterface
import BatchLossKernels

#if arch(x86_64)
  import BatchLossKernelsX86V3
  import BatchLossKernelsX86V4
#endif

/// The kernels of one instruction set, with the element-wise losses by type.
package final class KernelSelection: Sendable {
  private let set: KernelSet
  private let floatElementwise: [ObjectIdentifier: ElementwiseKernel<Float>]
  private let doubleElementwise: [ObjectIdentifier: ElementwiseKernel<Double>]

  /// The kernels compiled for a level, which the processor must have.
  package init(_ level: InstructionSet) {
    switch level {
    #if arch(x86_64)
      case .x86v4: set = BatchLossKernelsX86V4.makeKernelSet()
      case .x86v3: set = BatchLossKernelsX86V3.makeKernelSet()
    #endif
    default: set = BatchLossKernels.makeKernelSet()
    }
    var float: [ObjectIdentifier: ElementwiseKernel<Float>] = [:]
    var double: [ObjectIdentifier: ElementwiseKernel<Double>] = [:]
    set.registerElementwise { type, single, wide in
      float[ObjectIdentifier(type)] = single
      double[ObjectIdentifier(type)] = wide
    }
    floatElementwise = float
    doubleElementwise = double
  }

  /// The kernels in use.
  package static var current: KernelSelection {
    get throws(BatchLossError) { try chosen.get() }
  }

  private static let chosen = Result { () throws(BatchLossError) in
    KernelSelection(try InstructionSet.current)
  }

  /// The kernels for a scalar type, which is `Float` or `Double`.
  package func table<Scalar: LossScalar>(_: Scalar.Type) -> KernelTable<Scalar> {
    Scalar.self == Float.self
      ? unsafeDowncast(set.float, to: KernelTable<Scalar>.self)
      : unsafeDowncast(set.double, to: KernelTable<Scalar>.self)
  }

  /// The kernel of an element-wise loss, if it was compiled ahead of time.
  package func elementwise<Scalar: LossScalar>(_ type: Any.Type, _: Scalar.Type) -> ElementwiseKernel<Scalar>? {
    Scalar.self == Float.self
      ? floatElementwise[ObjectIdentifier(type)] as! ElementwiseKernel<Scalar>?
      : doubleElementwise[ObjectIdentifier(type)] as! ElementwiseKernel<Scalar>?
  }
}

extension KernelTable {
  /// The sum of the elements of a buffer, in float64.
  func sum(_ elements: UnsafeBufferPointer<Scalar>) -> Double {
    elements.baseAddress.map { sum($0, elements.count) } ?? 0
  }
}
