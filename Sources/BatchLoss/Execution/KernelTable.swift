import BatchLossFormulas
import BatchLossKernelInterface
import BatchLossKernels

#if arch(x86_64)
  import BatchLossKernelsX86V3
  import BatchLossKernelsX86V4
#endif

/// The kernels of one instruction set for one scalar type.
final class ScalarKernels<Scalar: LossScalar>: Sendable {
  let elementwise: [ObjectIdentifier: ElementwiseKernel<Scalar>]

  init(elementwise: [ObjectIdentifier: ElementwiseKernel<Scalar>]) {
    self.elementwise = elementwise
  }
}

/// The kernels of one instruction set.
final class KernelTable: Sendable {
  private let float: ScalarKernels<Float>
  private let double: ScalarKernels<Double>

  private init(_ level: InstructionSet) {
    var float: [ObjectIdentifier: ElementwiseKernel<Float>] = [:]
    var double: [ObjectIdentifier: ElementwiseKernel<Double>] = [:]
    func register(
      type: Any.Type, _ single: @escaping ElementwiseKernel<Float>, _ wide: @escaping ElementwiseKernel<Double>
    ) {
      float[ObjectIdentifier(type)] = single
      double[ObjectIdentifier(type)] = wide
    }
    switch level {
    #if arch(x86_64)
      case .x86v4: BatchLossKernelsX86V4.registerElementwiseKernels(register)
      case .x86v3: BatchLossKernelsX86V3.registerElementwiseKernels(register)
    #endif
    default: BatchLossKernels.registerElementwiseKernels(register)
    }
    self.float = ScalarKernels(elementwise: float)
    self.double = ScalarKernels(elementwise: double)
  }

  private static let current: Result<KernelTable, BatchLossError> = Result { () throws(BatchLossError) in
    KernelTable(try InstructionSet.current)
  }

  /// The kernels in use for a scalar type.
  static func kernels<Scalar: LossScalar>(_: Scalar.Type) throws(BatchLossError) -> ScalarKernels<Scalar> {
    let table = try current.get()
    return Scalar.self == Float.self
      ? unsafeDowncast(table.float, to: ScalarKernels<Scalar>.self)
      : unsafeDowncast(table.double, to: ScalarKernels<Scalar>.self)
  }
}
