/// What one instruction of a recorded formula does. Masks are numbers: 1 for true, 0 for false.
package enum FormulaOperation: UInt8, Sendable {
  case constant
  case add, subtract, multiply, divide, negate
  case isLess, isLessOrEqual, isEqual, and, or, not
  /// `b` where `c` is true, `a` elsewhere.
  case select
  case multiplyAdd
  case magnitude, squareRoot
  case exp, expOfNonPositive, expMinusOne, log, logOnePlus, logOnePlusFraction, tanh
}

/// One instruction over a tile of elements; operands and result are numbers of tile registers.
package struct FormulaInstruction: Sendable {
  package var operation: FormulaOperation
  package var result: Int
  package var a: Int
  package var b: Int
  package var c: Int
  package var constant: Double

  package init(operation: FormulaOperation, result: Int, a: Int, b: Int, c: Int, constant: Double) {
    self.operation = operation
    self.result = result
    self.a = a
    self.b = b
    self.c = c
    self.constant = constant
  }
}

/// A formula as instructions. Register 0 holds predictions, register 1 targets.
package struct FormulaProgram {
  /// Elements that pass through the instructions together.
  package static let tile = 256

  package var instructions: UnsafePointer<FormulaInstruction>
  package var count: Int
  /// How many of the first instructions are constants, which are set once.
  package var constantCount: Int
  package var registers: Int
  package var loss: Int
  package var derivative: Int

  package init(
    instructions: UnsafePointer<FormulaInstruction>, count: Int, constantCount: Int, registers: Int,
    loss: Int, derivative: Int
  ) {
    self.instructions = instructions
    self.count = count
    self.constantCount = constantCount
    self.registers = registers
    self.loss = loss
    self.derivative = derivative
  }

  /// Scratch elements that the registers need.
  package var scratchCount: Int { registers * Self.tile }
}

/// Runs a recorded formula over one run of elements, with `program.scratchCount` elements of scratch memory
/// aligned to 64 bytes.
package typealias FormulaKernel<Scalar: KernelScalar> =
  @Sendable (
    _ program: FormulaProgram, _ scratch: UnsafeMutablePointer<Scalar>,
    _ arguments: inout ElementwiseArguments<Scalar>
  ) -> Void
