import BatchLoss
import BatchLossCatalog

/// One thing that is measured: a loss of the catalogue, its inputs, and what it must move and compute.
struct Workload: Sendable {
  let name: String
  let entry: LossEntry
  let options: LossOptions
  /// The first shape is the default; a suite has several.
  let shapes: [Dimensions]
  let inputs: @Sendable (Dimensions) -> [InputRecipe]
  /// Scalars that must be read, and those that must be written for all gradients.
  let traffic: @Sendable (Dimensions) -> (read: Int, written: Int)
  /// Floating-point operations of the matrix products that the cost needs, and those that gradients need beside.
  let products: @Sendable (Dimensions) -> (cost: Double, gradients: Double)
  /// Whether the gradient may replace the input.
  let evaluatesInPlace: Bool
  /// Another name of the columns.
  let columnsName: Dimensions.Name?

  init(
    _ name: String, entry: LossEntry? = nil, options: LossOptions = LossOptions(), shapes: [Dimensions],
    inputs: @escaping @Sendable (Dimensions) -> [InputRecipe],
    traffic: @escaping @Sendable (Dimensions) -> (read: Int, written: Int),
    products: @escaping @Sendable (Dimensions) -> (cost: Double, gradients: Double) = { _ in (0, 0) },
    evaluatesInPlace: Bool = false, columnsName: Dimensions.Name? = nil
  ) {
    self.name = name
    self.entry = entry ?? LossCatalog[name]!
    self.options = options
    self.shapes = shapes
    self.inputs = inputs
    self.traffic = traffic
    self.products = products
    self.evaluatesInPlace = evaluatesInPlace
    self.columnsName = columnsName
  }

  /// Floating-point operations of matrix products.
  func flops(_ shape: Dimensions, costOnly: Bool = false) -> Double {
    let (cost, gradients) = products(shape)
    return costOnly ? cost : cost + gradients
  }

  /// Whether any of its inputs is differentiable; the traffic of one without is the same with `--cost-only`.
  var hasGradient: Bool { inputs(shapes[0]).contains(where: \.isDifferentiable) }

  static func named(_ name: String) throws -> Workload {
    guard let workload = all.first(where: { $0.name == name }) else {
      throw UsageError("'\(name)' is no workload; bench list names them")
    }
    return workload
  }
}

/// How an input is made up, the same on every run.
struct InputRecipe {
  enum Content {
    case normal(scale: Double)
    case uniform(ClosedRange<Double>)
    /// One of two numbers.
    case coin(Double, Double)
    /// Integers from a bound up to another.
    case labels(Range<Int>)
    /// As many classes, of the same size within one, in random order.
    case classes(Int)
  }

  let role: Role
  let shape: [Int]
  let content: Content
  let isDifferentiable: Bool

  init(_ role: Role, _ shape: Int..., content: Content, differentiable: Bool = false) {
    self.role = role
    self.shape = shape
    self.content = content
    isDifferentiable = differentiable
  }

  var columns: Int { shape.count == 1 ? 1 : shape.last ?? 1 }
  var rows: Int { shape.reduce(1, *) / max(1, columns) }
}
