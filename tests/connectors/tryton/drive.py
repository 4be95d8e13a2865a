"""Sells, ships, invoices and takes back goods in Tryton, through its own client library.

Started by crossdock-connectors, which talks to it by lines: after each step it prints one JSON
object with the name of the step and what the expected records need to know, and goes on when it
is told to. It connects in-process: no Tryton server runs.

    drive.py DUMP       DUMP keeps a new database for the next run
"""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import warnings
from decimal import Decimal

from proteus import Model, Wizard, config

MODULES = ["sale", "carrier", "sale_shipment_cost", "stock_package_shipping",
           "account_invoice_stock"]
TODAY = datetime.date.today()
SERVER = "postgresql://{SYSTEM_USER}@{SYSTEM_HOST}:{SYSTEM_PORT}/".format_map(os.environ)
DATABASE = os.environ["SYSTEM_DATABASE"]


def step(name, **said):
    """Tells what has been done, and waits until it has been checked."""
    print(json.dumps({"step": name, "vars": {k: str(v) for k, v in said.items()}}), flush=True)
    if not sys.stdin.readline():
        sys.exit("nobody listens any more")


def make_database(dump):
    """Tryton's own tables, from a dump of an earlier run if there is one."""
    if dump.exists():
        command = ["psql", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={dump}", SERVER + DATABASE]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return
    password = dump.with_name("password")
    password.write_text("only for a private server\n")
    admin = pathlib.Path(sys.executable).with_name("trytond-admin")
    subprocess.run(
        [admin, "-d", DATABASE, "-u", "ir", *MODULES, "--activate-dependencies",
         "--email", "admin@example.org"],
        check=True, env=os.environ | {"TRYTOND_DATABASE_URI": SERVER, "TRYTONPASSFILE": password})
    part = dump.with_suffix(".part")
    subprocess.run(["pg_dump", "--no-owner", f"--file={part}", SERVER + DATABASE], check=True)
    part.rename(dump)


def connect():
    """A connection as the administrator, who is asked no questions."""
    settings = config.set_trytond(SERVER + DATABASE, user="admin")
    settings.skip_warning = True
    return settings


def one(model, *domain):
    found, = Model.get(model).find(list(domain), limit=1)
    return found


def set_up_company():
    """A company in Hamburg, its accounts, and who may be paid how."""
    # Tryton's own scenarios set a company up with these.
    from trytond.modules.account.tests.tools import create_chart, create_fiscalyear, get_accounts
    from trytond.modules.account_invoice.tests.tools import (
        create_payment_term, set_fiscalyear_invoice_sequences)
    from trytond.modules.company.tests.tools import create_company

    Party = Model.get("party.party")
    party = Party(name="Hansekontor")
    party.save()
    create_company(party, currency="EUR")
    create_chart()
    year = set_fiscalyear_invoice_sequences(create_fiscalyear())
    year.click("create_period")
    employee = Model.get("company.employee")(party=Party(name="Ada Lager"))
    employee.party.save()
    employee.save()
    user = Model.get("res.user")(config.get_config().user)
    user.employees.append(employee)
    user.employee = employee
    user.save()
    settings = config.get_config()
    settings._context = Model.get("res.user").get_preferences(True, {})
    accounts = get_accounts()
    term = create_payment_term()
    term.save()
    journal = one("account.journal", ("type", "=", "cash"))
    method = Model.get("account.invoice.payment.method")(
        name="Cash", journal=journal,
        credit_account=accounts["cash"], debit_account=accounts["cash"])
    method.save()
    return accounts, term, method


def tax_of(rate):
    from trytond.modules.account.tests.tools import create_tax

    tax = create_tax(Decimal(rate))
    tax.save()
    return tax


def product(code, name, uom, price, category, kind="goods", **more):
    template = Model.get("product.template")()
    template.name = name
    template.code = code
    template.type = kind
    template.default_uom = one("product.uom", ("symbol", "=", uom))
    template.salable = True
    template.list_price = Decimal(price)
    template.account_category = category
    for field, value in more.items():
        setattr(template, field, value)
    template.save()
    made, = template.products
    return made


def set_up_masters(accounts):
    country = Model.get("country.country")(name="Germany", code="DE", code3="DEU")
    country.save()
    customer = Model.get("party.party")(name="Hofladen Nord")
    address, = customer.addresses
    address.street_unstructured = "Deichweg 7"
    address.postal_code = "20457"
    address.city = "Hamburg"
    address.country = country
    customer.save()
    category = Model.get("product.category")(name="Sold goods", accounting=True)
    category.account_expense = accounts["expense"]
    category.account_revenue = accounts["revenue"]
    category.customer_taxes.append(tax_of("0.19"))
    category.save()
    kilogram = one("product.uom", ("symbol", "=", "kg"))
    crate = product("CRATE-6", "Crate of six", "u", "12.50", category,
                    weight=8.4, weight_uom=kilogram)
    honey = product("HONEY", "Honey, loose", "kg", "8.40", category)
    delivery = product("DELIVERY", "Delivery", "u", "5.00", category, kind="service")
    haulier = Model.get("party.party")(name="Elbe Spedition")
    haulier.save()
    carrier = Model.get("carrier")(party=haulier, carrier_product=delivery)
    carrier.save()
    Model.get("carrier.selection")(carrier=carrier).save()
    return customer, crate, honey, carrier


def stock(**quantities):
    """Counts goods in the storage zone."""
    inventory = Model.get("stock.inventory")(location=one("stock.location", ("code", "=", "STO")))
    for code, quantity in quantities.items():
        goods = one("product.product", ("code", "=", code.replace("_", "-")))
        inventory.lines.new(product=goods, quantity=quantity, expected_quantity=0.0)
    inventory.click("confirm")


def sale(customer, term, *lines, **more):
    # Set one after the other, as in a form: addresses and prices follow from them.
    made = Model.get("sale.sale")()
    more = {"party": customer, "payment_term": term, "invoice_method": "order"} | more
    for field, value in more.items():
        setattr(made, field, value)
    for goods, quantity in lines:
        if goods is None:
            made.lines.new(type="comment", description=quantity)
        else:
            line = made.lines.new()
            line.product = goods
            line.quantity = quantity
    made.click("quote")
    return made


def lines_of(made, what="line"):
    """Ids of the lines that sell something."""
    lines = sorted((line for line in made.lines if line.type == "line"), key=lambda l: l.id)
    return {f"{what}{n}": line.id for n, line in enumerate(lines, 1)}


def name(product):
    return product.code.split("-")[0].lower()


def moves_of(moves, what):
    """Ids of stock moves, by the code of what is moved."""
    return {f"{what}_{name(move.product)}": move.id for move in moves}


def assign_what_is_there(shipment):
    """Reserves stock; what is missing is left for another shipment."""
    assign = shipment.click("assign_wizard")
    if assign.form_state != "end" and shipment.reload() is None and shipment.state == "waiting":
        assign.execute("ignore")
    shipment.reload()


def pack(shipment):
    """Puts all goods on one pallet."""
    package = shipment.packages.new()
    package.type = one("stock.package.type")
    for move in shipment.outgoing_moves:
        package.moves.append(Model.get("stock.move")(move.id))
    shipment.save()
    shipment.click("pack")


def sell_in_two_shipments(customer, term, crate, honey, carrier):
    sold = sale(customer, term, (crate, 10.0), (None, "Please ring twice"), (honey, 2.35),
                reference="PO-4711", carrier=carrier, shipping_date=TODAY)
    step("quoted", today=TODAY, **lines_of(sold))

    sold.click("confirm")
    first, = sold.shipments
    step("confirmed", **moves_of(first.outgoing_moves, "out"),
         **moves_of(first.inventory_moves, "pick"))

    assign_what_is_there(first)
    first.click("pick")
    first.reload()
    step("picked", **moves_of(first.inventory_moves, "taken"))

    pack(first)
    step("packed")

    first.click("ship")
    sold.reload()
    second, = [s for s in sold.shipments if s.id != first.id]
    step("shipped", **moves_of(second.outgoing_moves, "rest"),
         **moves_of(second.inventory_moves, "fetch"))

    first.click("do")
    step("done")

    stock(CRATE_6=4.0)
    for button in ("assign_try", "pick"):
        second.click(button)
    pack(second)
    second.click("do")
    step("rest_done")
    return sold


def invoice_and_pay(sold, method):
    sold.reload()
    invoice, = sold.invoices
    invoice.click("post")
    charged = {f"charged_{name(line.product)}": line.id for line in invoice.lines}
    step("invoiced", **charged)

    pay = invoice.click("pay")
    pay.form.payment_method = method
    pay.execute("choice")
    step("paid")


def cancel_in_time(customer, term, crate):
    quoted = sale(customer, term, (crate, 1.0))
    quoted.click("cancel")
    confirmed = sale(customer, term, (crate, 3.0))
    confirmed.click("confirm")
    shipment, = confirmed.shipments
    shipment.click("cancel")
    step("cancelled", **lines_of(quoted, "dropped"), **lines_of(confirmed, "kept"),
         **moves_of(shipment.outgoing_moves, "stopped"),
         **moves_of(shipment.inventory_moves, "unpicked"))


def take_back(sold, crate):
    """Two crates come back; the customer gets a credit note."""
    wizard = Wizard("sale.return_sale", [sold])
    wizard.execute("return_")
    back, = Model.get("sale.sale").find([("origin", "=", f"sale.sale,{sold.id}")])
    for line in list(back.lines):
        if line.product != crate:
            back.lines.remove(line)
        else:
            line.quantity = -2.0
    back.save()
    back.click("quote")
    back.click("confirm")
    returned, = back.shipment_returns
    returned.click("receive")
    step("received", **lines_of(back, "back"), **moves_of(returned.incoming_moves, "in"))

    returned.click("do")
    credit, = back.invoices
    credit.click("post")
    line, = credit.lines
    step("credited", credited_crate=line.id)


def main():
    warnings.simplefilter("ignore")
    make_database(pathlib.Path(sys.argv[1]))
    connect()
    accounts, term, method = set_up_company()
    customer, crate, honey, carrier = set_up_masters(accounts)
    package = Model.get("stock.package.type")(name="Pallet")
    package.save()
    stock(CRATE_6=6.0, HONEY=50.0)
    addresses = {party.code: party.addresses[0].id for party in Model.get("party.party").find()}
    step("masters", **{f"address{code}": id for code, id in addresses.items()})

    sold = sell_in_two_shipments(customer, term, crate, honey, carrier)
    invoice_and_pay(sold, method)
    cancel_in_time(customer, term, crate)
    take_back(sold, crate)


main()
