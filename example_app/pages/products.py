"""The list of products, and one with its gallery."""

from __future__ import annotations

from bson import ObjectId
from flask import Blueprint, render_template

from ..database import db, find_page
from ..products import attach, find_product
from ..schemas import PageSchema, read_query
from ..security import viewer

blueprint = Blueprint("products", __name__)


@blueprint.get("/")
def show_list() -> str:
    query = read_query(PageSchema())
    products, has_next = find_page("products", **query)
    attach(products, viewer())
    return render_template("products.html", products=products, has_next=has_next, **query)


@blueprint.get("/products/<ObjectId:product_id>")
def show(product_id: ObjectId) -> str:
    product = find_product(product_id, viewer())
    reviews = list(db.reviews.find({"target_id": product_id}).sort("_id", -1).limit(20))
    return render_template("product.html", product=product, reviews=reviews)
