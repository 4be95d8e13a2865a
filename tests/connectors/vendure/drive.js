'use strict';
// Sells, ships, refunds and cancels goods in Vendure, through its own GraphQL APIs: the shop's as a
// guest, the administrator's otherwise.
//
// Started by crossdock-connectors, which talks to it by lines: after each step it prints one JSON
// object with the name of the step and what the expected records need to know, and goes on when it
// is told to. Vendure runs in this process, on a free port of the loopback.
//
//     drive.js NODE_MODULES

const net = require('node:net');
const path = require('node:path');
const readline = require('node:readline');

const modules = path.resolve(process.argv[2]);
const core = require(path.join(modules, '@vendure/core'));
const { Populator } = require(path.join(modules, '@vendure/core/dist/data-import'));

const said = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Tells what has been done, and waits until it has been checked. */
async function step(name, vars = {}) {
  const texts = Object.fromEntries(Object.entries(vars).map(([key, value]) => [key, String(value)]));
  process.stdout.write(`${JSON.stringify({ step: name, vars: texts })}\n`);
  if ((await said.next()).done) throw new Error('nobody listens any more');
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function start(port) {
  const app = await core.bootstrap(core.mergeConfig(core.defaultConfig, {
    apiOptions: { port, hostname: '127.0.0.1', adminApiPath: 'admin-api', shopApiPath: 'shop-api' },
    authOptions: { tokenMethod: 'bearer', superadminCredentials: { identifier: 'admin', password: 'admin' } },
    dbConnectionOptions: {
      type: 'mariadb',
      host: process.env.SYSTEM_HOST,
      port: Number(process.env.SYSTEM_PORT),
      username: process.env.SYSTEM_USER,
      database: process.env.SYSTEM_DATABASE,
      timezone: 'Z',
      synchronize: true,
    },
    paymentOptions: { paymentMethodHandlers: [core.dummyPaymentHandler] },
    logger: new core.DefaultLogger({ level: core.LogLevel.Error }),
    plugins: [],
  }));
  await app.get(Populator).populateInitialData({
    defaultLanguage: 'en',
    defaultZone: 'Europe',
    countries: [{ name: 'Germany', code: 'DE', zone: 'Europe' }],
    taxRates: [{ name: 'Standard', percentage: 20 }],
    shippingMethods: [{ name: 'Parcel', price: 500 }],
    paymentMethods: [{
      name: 'Invoice',
      handler: { code: 'dummy-payment-handler', arguments: [{ name: 'automaticSettle', value: 'false' }] },
    }],
    collections: [],
  });
  return app;
}

/** One client of an API, which keeps its session. */
function client(port, api) {
  let token;
  return async (query, variables) => {
    const answer = await fetch(`http://127.0.0.1:${port}/${api}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(token ? { authorization: `Bearer ${token}` } : {}),
      },
      body: JSON.stringify({ query, variables }),
    });
    token = answer.headers.get('vendure-auth-token') || token;
    const { data, errors } = await answer.json();
    if (errors) throw new Error(JSON.stringify(errors));
    const [result] = Object.values(data);
    if (result && result.errorCode) throw new Error(`${result.errorCode}: ${result.message}`);
    return result;
  };
}

const ERROR = '... on ErrorResult { errorCode message }';

async function makeProduct(admin, name, variant) {
  const slug = name.toLowerCase().replace(' ', '-');
  const { id: productId } = await admin(`mutation ($input: CreateProductInput!) {
    createProduct(input: $input) { id } }`,
  { input: { enabled: true, translations: [{ languageCode: 'en', name, slug, description: '' }] } });
  const [made] = await admin(`mutation ($input: [CreateProductVariantInput!]!) {
    createProductVariants(input: $input) { id sku } }`, {
    input: [{
      productId, trackInventory: 'TRUE', translations: [{ languageCode: 'en', name }], ...variant,
    }],
  });
  return made;
}

/** A guest's order, up to the payment. */
async function order(port, admin, email, items) {
  const shop = client(port, 'shop-api');
  for (const [variant, quantity] of items) {
    await shop(`mutation ($variant: ID!, $quantity: Int!) {
      addItemToOrder(productVariantId: $variant, quantity: $quantity) { __typename ${ERROR} } }`,
    { variant, quantity });
  }
  await shop(`mutation ($input: CreateCustomerInput!) {
    setCustomerForOrder(input: $input) { __typename ${ERROR} } }`,
  { input: { emailAddress: email, firstName: 'Jette', lastName: 'Harms' } });
  await shop(`mutation { setOrderShippingAddress(input: { fullName: "Jette Harms",
    streetLine1: "Am Kai 1", city: "Bremen", postalCode: "28195", countryCode: "DE" }) {
    __typename ${ERROR} } }`);
  const [method] = await shop('{ eligibleShippingMethods { id } }');
  await shop(`mutation ($id: [ID!]!) {
    setOrderShippingMethod(shippingMethodId: $id) { __typename ${ERROR} } }`, { id: [method.id] });
  await shop(`mutation { transitionOrderToState(state: "ArrangingPayment") {
    __typename ... on OrderStateTransitionError { errorCode message transitionError } } }`);
  const { code } = await shop(`mutation {
    addPaymentToOrder(input: { method: "invoice", metadata: {} }) { ... on Order { code } ${ERROR} } }`);
  const { items: [placed] } = await admin(`query ($code: String!) {
    orders(options: { filter: { code: { eq: $code } } }) { items {
      id code customer { id } lines { id productVariant { sku } } payments { id transactionId } } } }`, { code });
  return placed;
}

async function fulfil(admin, lines, tracking) {
  const { id } = await admin(`mutation ($input: FulfillOrderInput!) {
    addFulfillmentToOrder(input: $input) { ... on Fulfillment { id } ${ERROR} } }`, {
    input: {
      lines: lines.map(([orderLineId, quantity]) => ({ orderLineId, quantity })),
      handler: {
        code: 'manual-fulfillment',
        arguments: [{ name: 'method', value: 'Parcel' }, { name: 'trackingCode', value: tracking }],
      },
    },
  });
  return id;
}

function move(admin, id, state) {
  return admin(`mutation ($id: ID!, $state: String!) {
    transitionFulfillmentToState(id: $id, state: $state) { __typename ${ERROR} } }`, { id, state });
}

function settle(admin, placed) {
  return admin(`mutation ($id: ID!) { settlePayment(id: $id) { __typename ${ERROR} } }`,
    { id: placed.payments[0].id });
}

async function sellInTwoParcels(port, admin, lamp, bulb) {
  const sold = await order(port, admin, 'jette@example.org', [[lamp.id, 2], [bulb.id, 4]]);
  const [lamps, bulbs] = sold.lines;
  await step('placed', {
    order: sold.code, customer: sold.customer.id, lamps: lamps.id, bulbs: bulbs.id,
    payment: sold.payments[0].id, reference: sold.payments[0].transactionId,
    today: new Date().toISOString().slice(0, 10),
  });
  await settle(admin, sold);
  await step('paid');

  const first = await fulfil(admin, [[lamps.id, 1], [bulbs.id, 4]], 'JD0001');
  await step('planned', { first });
  await move(admin, first, 'Shipped');
  await step('shipped');
  await move(admin, first, 'Delivered');
  await step('delivered');

  const second = await fulfil(admin, [[lamps.id, 1]], 'JD0002');
  await move(admin, second, 'Shipped');
  await move(admin, second, 'Delivered');
  await step('rest_delivered', { second });
  return { sold, lamps };
}

async function refund(admin, { sold, lamps }) {
  const { id } = await admin(`mutation ($input: RefundOrderInput!) {
    refundOrder(input: $input) { ... on Refund { id } ${ERROR} } }`, {
    input: {
      lines: [{ orderLineId: lamps.id, quantity: 1 }], shipping: 0, adjustment: 0,
      paymentId: sold.payments[0].id, reason: 'It flickers',
    },
  });
  await admin(`mutation ($id: ID!) {
    settleRefund(input: { id: $id, transactionId: "R-1" }) { __typename ${ERROR} } }`, { id });
  await step('refunded', { refund: id });
}

async function cancel(port, admin, bulb) {
  const dropped = await order(port, admin, 'jette@example.org', [[bulb.id, 3]]);
  await settle(admin, dropped);
  const stopped = await fulfil(admin, [[dropped.lines[0].id, 3]], 'JD0003');
  await move(admin, stopped, 'Cancelled');
  await step('stopped', {
    dropped: dropped.code, dropped_line: dropped.lines[0].id, stopped,
    dropped_payment: dropped.payments[0].id, dropped_reference: dropped.payments[0].transactionId,
  });
  await admin(`mutation ($id: ID!) {
    cancelOrder(input: { orderId: $id, reason: "Changed her mind" }) { __typename ${ERROR} } }`,
  { id: dropped.id });
  await step('cancelled');
}

async function main() {
  const port = await freePort();
  const app = await start(port);
  const admin = client(port, 'admin-api');
  await admin('mutation { login(username: "admin", password: "admin") { __typename } }');
  const lamp = await makeProduct(admin, 'Desk lamp', { sku: 'LAMP-1', price: 12990, stockOnHand: 10 });
  const bulb = await makeProduct(admin, 'Bulb', { sku: 'BULB-2', price: 455, stockOnHand: 100 });
  await step('masters');
  const done = await sellInTwoParcels(port, admin, lamp, bulb);
  await refund(admin, done);
  await cancel(port, admin, bulb);
  await app.close();
}

main().then(() => process.exit(0), (error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
