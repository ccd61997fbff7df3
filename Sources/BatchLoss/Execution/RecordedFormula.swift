import BatchLossFormulas
import BatchLossKernelInterface

/// The formula of an element-wise loss that was not compiled ahead of time, recorded by running it once on
/// expressions instead of numbers.
///
/// The kernels of every instruction set can run the recording, tile by tile in the first-level cache. So a loss
/// of another package reaches the best instructions of the processor whatever that package was compiled for,
/// in debug builds too. The same operations run in the same order as in a compiled formula: same bits.
struct RecordedFormula {
  private let instructions: [FormulaInstruction]
  private let constantCount: Int
  private let registers: Int
  private let loss: Int
  private let derivative: Int

  init<Loss: ElementwiseLoss>(_ formula: Loss) {
    let result = formula.evaluate(
      prediction: RecordedVector(.prediction), target: RecordedVector(.target))
    var assembler = FormulaAssembler()
    assembler.assemble(result.loss.expression, result.derivative.expression)
    instructions = assembler.instructions
    constantCount = assembler.constantCount
    registers = assembler.registers
    loss = assembler.loss
    derivative = assembler.derivative
  }

  /// Lends the program to `body`.
  func withProgram<Result>(_ body: (FormulaProgram) -> Result) -> Result {
    instructions.withUnsafeBufferPointer { buffer in
      body(
        FormulaProgram(
          instructions: buffer.baseAddress ?? UnsafePointer(bitPattern: 8)!, count: buffer.count,
          constantCount: constantCount, registers: registers, loss: loss, derivative: derivative))
    }
  }
}

// MARK: - Recording

/// A node of a formula. Nodes are shared where the formula uses a value twice.
private final class Expression: Sendable {
  enum Kind: Sendable {
    case prediction, target
    case operation(FormulaOperation)
  }

  let kind: Kind
  let operands: [Expression]
  let constant: Double

  static let prediction = Expression(.prediction)
  static let target = Expression(.target)

  init(_ kind: Kind, _ operands: [Expression] = [], constant: Double = 0) {
    self.kind = kind
    self.operands = operands
    self.constant = constant
  }

  convenience init(_ operation: FormulaOperation, _ operands: Expression...) {
    self.init(.operation(operation), operands)
  }
}

/// A vector whose lanes are not known yet.
private struct RecordedVector: LossVector {
  let expression: Expression

  init(_ expression: Expression) { self.expression = expression }
  init(_ value: Double) { expression = Expression(.operation(.constant), constant: value) }

  private init(_ operation: FormulaOperation, _ operands: RecordedVector...) {
    expression = Expression(.operation(operation), operands.map(\.expression))
  }

  static func + (left: Self, right: Self) -> Self { Self(.add, left, right) }
  static func - (left: Self, right: Self) -> Self { Self(.subtract, left, right) }
  static func * (left: Self, right: Self) -> Self { Self(.multiply, left, right) }
  static func / (left: Self, right: Self) -> Self { Self(.divide, left, right) }
  static prefix func - (operand: Self) -> Self { Self(.negate, operand) }

  static func .< (left: Self, right: Self) -> RecordedMask { RecordedMask(.isLess, left, right) }
  static func .<= (left: Self, right: Self) -> RecordedMask { RecordedMask(.isLessOrEqual, left, right) }
  static func .== (left: Self, right: Self) -> RecordedMask { RecordedMask(.isEqual, left, right) }

  func replacing(with other: Self, where mask: RecordedMask) -> Self {
    Self(Expression(.select, expression, other.expression, mask.expression))
  }

  static func multiplyAdd(_ left: Self, _ right: Self, _ addend: Self) -> Self {
    Self(.multiplyAdd, left, right, addend)
  }

  var magnitude: Self { Self(.magnitude, self) }
  func squareRoot() -> Self { Self(.squareRoot, self) }
  static func exp(_ x: Self) -> Self { Self(.exp, x) }
  static func exp(nonPositive x: Self) -> Self { Self(.expOfNonPositive, x) }
  static func expMinusOne(_ x: Self) -> Self { Self(.expMinusOne, x) }
  static func log(_ x: Self) -> Self { Self(.log, x) }
  static func log(onePlus x: Self) -> Self { Self(.logOnePlus, x) }
  static func log(onePlusFraction x: Self) -> Self { Self(.logOnePlusFraction, x) }
  static func tanh(_ x: Self) -> Self { Self(.tanh, x) }
}

/// Truth values of lanes that are not known yet.
private struct RecordedMask: LossMask {
  let expression: Expression

  init(_ operation: FormulaOperation, _ left: RecordedVector, _ right: RecordedVector) {
    expression = Expression(operation, left.expression, right.expression)
  }

  private init(_ expression: Expression) { self.expression = expression }

  static func .& (left: Self, right: Self) -> Self { Self(Expression(.and, left.expression, right.expression)) }
  static func .| (left: Self, right: Self) -> Self { Self(Expression(.or, left.expression, right.expression)) }
  static prefix func .! (operand: Self) -> Self { Self(Expression(.not, operand.expression)) }
}

// MARK: - Instructions

/// Puts the nodes of a formula in order and gives each a register, which is used again after its last reader.
private struct FormulaAssembler {
  private(set) var instructions: [FormulaInstruction] = []
  private(set) var constantCount = 0
  private(set) var registers = 2
  private(set) var loss = 0
  private(set) var derivative = 0

  private var order: [Expression] = []
  private var seen: Set<ObjectIdentifier> = []
  private var constants: [(value: Double, register: Int)] = []
  private var registerOf: [ObjectIdentifier: Int] = [:]
  private var free: [Int] = []

  mutating func assemble(_ lossNode: Expression, _ derivativeNode: Expression) {
    visit(lossNode)
    visit(derivativeNode)
    var lastUse: [ObjectIdentifier: Int] = [:]
    for (index, node) in order.enumerated() {
      for operand in node.operands { lastUse[ObjectIdentifier(operand)] = index }
    }
    lastUse[ObjectIdentifier(lossNode)] = .max
    lastUse[ObjectIdentifier(derivativeNode)] = .max

    for node in order { if case .operation(.constant) = node.kind { addConstant(node) } }
    constantCount = instructions.count
    for (index, node) in order.enumerated() {
      switch node.kind {
      case .prediction: registerOf[ObjectIdentifier(node)] = 0
      case .target: registerOf[ObjectIdentifier(node)] = 1
      case .operation(.constant): break
      case .operation(let operation):
        let operands = node.operands.map { registerOf[ObjectIdentifier($0)]! }
        // An instruction reads each element before it writes it, so an operand read last gives its place.
        for operand in Set(node.operands.map(ObjectIdentifier.init)) where lastUse[operand] == index {
          release(operand)
        }
        let result = free.popLast() ?? newRegister()
        registerOf[ObjectIdentifier(node)] = result
        instructions.append(
          FormulaInstruction(
            operation: operation, result: result, a: operands[0],
            b: operands.count > 1 ? operands[1] : operands[0],
            c: operands.count > 2 ? operands[2] : operands[0], constant: 0))
      }
    }
    loss = registerOf[ObjectIdentifier(lossNode)]!
    derivative = registerOf[ObjectIdentifier(derivativeNode)]!
  }

  private mutating func visit(_ node: Expression) {
    guard seen.insert(ObjectIdentifier(node)).inserted else { return }
    for operand in node.operands { visit(operand) }
    order.append(node)
  }

  private mutating func addConstant(_ node: Expression) {
    if let known = constants.first(where: { $0.value.bitPattern == node.constant.bitPattern }) {
      registerOf[ObjectIdentifier(node)] = known.register
      return
    }
    let register = newRegister()
    constants.append((node.constant, register))
    registerOf[ObjectIdentifier(node)] = register
    instructions.append(
      FormulaInstruction(operation: .constant, result: register, a: 0, b: 0, c: 0, constant: node.constant))
  }

  private mutating func release(_ node: ObjectIdentifier) {
    guard let register = registerOf[node], register > 1 else { return }
    guard !constants.contains(where: { $0.register == register }) else { return }
    free.append(register)
  }

  private mutating func newRegister() -> Int {
    registers += 1
    return registers - 1
  }
}
