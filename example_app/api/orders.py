"""Orders of the logged-in user."""

from __future__ import annotations

from http import HTTPStatus

from bson import ObjectId
from flask import Blueprint, abort, url_for
from flask.typing import ResponseReturnValue
from flask_jwt_extended import jwt_required
from marshmallow import ValidationError, fields, validate

from ..database import db, find_or_404, find_page, now
from ..schemas import PAGE, Id, Money, Schema, dump, page_body, read, read_query
from ..security import viewer

blueprint = Blueprint("orders", __name__, url_prefix="/orders")


class ItemSchema(Schema):
    product_id = Id(required=True)
    quantity = fields.Integer(load_default=1, strict=True, validate=validate.Range(1, 1000))
    name = fields.String(dump_only=True)
    price = Money(dump_only=True)


class OrderSchema(Schema):
    id = Id(attribute="_id", dump_only=True)
    items = fields.List(fields.Nested(ItemSchema), required=True, validate=validate.Length(1, 100))
    total = Money(dump_only=True)
    created_at = fields.AwareDateTime(dump_only=True)


@blueprint.get("")
@jwt_required()
def list_orders() -> ResponseReturnValue:
    query = read_query(PAGE)
    orders, has_next = find_page("orders", where={"creator_id": viewer().id}, **query)
    return page_body(
        "orders", [dump(OrderSchema(), order) for order in orders], query, has_next=has_next
    )


@blueprint.post("")
@jwt_required()
def post_order() -> ResponseReturnValue:
    wanted = read(OrderSchema())["items"]
    ids = [item["product_id"] for item in wanted]
    products = {
        product["_id"]: product
        for product in db.products.find({"_id": {"$in": ids}}, {"name": 1, "price": 1})
    }
    unknown = {
        n: {"productId": ["There is no such product."]}
        for n, item in enumerate(ids)
        if item not in products
    }
    if unknown:
        raise ValidationError({"items": unknown})
    # Name and price as they are now: a later change of the product does not change what was
    # ordered.
    items = [
        item | {key: products[item["product_id"]][key] for key in ("name", "price")}
        for item in wanted
    ]
    order = {
        "_id": ObjectId(),
        "items": items,
        "total": sum(item["price"] * item["quantity"] for item in items),
        "creator_id": viewer().id,
        "created_at": now(),
    }
    db.orders.insert_one(order)
    location = url_for(".get_order", order_id=order["_id"])
    return {"order": dump(OrderSchema(), order)}, HTTPStatus.CREATED, {"Location": location}


@blueprint.get("/<ObjectId:order_id>")
@jwt_required()
def get_order(order_id: ObjectId) -> ResponseReturnValue:
    order = find_or_404("orders", order_id)
    if not viewer().may_change(order):
        # People who may not see it do not learn that it exists.
        abort(404, "There is nothing with this id in orders.")
    return {"order": dump(OrderSchema(), order)}
