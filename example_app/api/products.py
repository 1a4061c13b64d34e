"""Products and their pictures."""

from __future__ import annotations

import typing as t
from http import HTTPStatus

from bson import ObjectId
from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from flask_jwt_extended import jwt_required
from marshmallow import ValidationError, fields, validate

from flask_dualmedia import ExternalURL, dump_media_list, save_product_images

from ..database import Document, db, find_or_404, find_page
from ..products import (
    attach,
    create_product,
    delete_product,
    find_image,
    find_product,
    find_whole_product,
    make_main,
    remove_image,
)
from ..schemas import (
    MAX_SOURCES,
    PAGE,
    Id,
    Money,
    Schema,
    Text,
    page_body,
    read,
    read_query,
    read_upload,
    uploaded_files,
)
from ..security import require_change, viewer

blueprint = Blueprint("products", __name__, url_prefix="/products")


class ImagesSchema(Schema):
    images = fields.List(Text(validate=validate.Length(1, 2048)), load_only=True, load_default=list)


class ProductSchema(Schema):
    id = Id(attribute="_id", dump_only=True)
    name = Text(required=True, validate=validate.Length(1, 200))
    description = Text(load_default="", validate=validate.Length(max=10_000))
    price = Money(required=True)
    creator_id = fields.String(dump_only=True)
    created_at = fields.AwareDateTime(dump_only=True)


class NewProductSchema(ProductSchema, ImagesSchema):
    pass


# Made once: a schema takes longer to make than to use.
CHANGES, NEW_PRODUCT, IMAGES = ProductSchema(partial=True), NewProductSchema(), ImagesSchema()


@blueprint.get("")
@jwt_required(optional=True)
def list_products() -> ResponseReturnValue:
    query = read_query(PAGE)
    products, has_next = find_page("products", **query)
    attach(products, viewer())
    items = [dump_fields(product) | {"images": dump_images(product)} for product in products]
    return page_body("products", items, query, has_next=has_next)


@blueprint.post("")
@jwt_required()
def post_product() -> ResponseReturnValue:
    values = read_upload(NEW_PRODUCT)
    sources = read_sources(values)
    product = create_product(values, sources, creator_id=t.cast(str, viewer().id))
    return (
        dump_product(product),
        HTTPStatus.CREATED,
        {"Location": url_for(".get_product", product_id=product["_id"])},
    )


@blueprint.get("/<ObjectId:product_id>")
@jwt_required(optional=True)
def get_product(product_id: ObjectId) -> ResponseReturnValue:
    return dump_product(find_product(product_id, viewer()))


@blueprint.patch("/<ObjectId:product_id>")
@jwt_required()
def patch_product(product_id: ObjectId) -> ResponseReturnValue:
    product = find_product(product_id, viewer())
    require_change(product)
    changes = read(CHANGES)
    if changes:
        db.products.update_one({"_id": product_id}, {"$set": changes})
    return dump_product(product | changes)


@blueprint.delete("/<ObjectId:product_id>")
@jwt_required()
def remove_product(product_id: ObjectId) -> ResponseReturnValue:
    product = find_whole_product(product_id)
    require_change(product)
    delete_product(product)
    return "", HTTPStatus.NO_CONTENT


@blueprint.post("/<ObjectId:product_id>/images")
@jwt_required()
def post_images(product_id: ObjectId) -> ResponseReturnValue:
    require_change(find_or_404("products", product_id))
    sources = read_sources(read_upload(IMAGES))
    if not sources:
        raise ValidationError({"images": ["Missing: send files or URLs."]})
    save_product_images(product_id, sources, uploaded_by=viewer().id, is_public=True)
    return dump_product(find_product(product_id, viewer())), HTTPStatus.CREATED


@blueprint.delete("/<ObjectId:product_id>/images/<image_id>")
@jwt_required()
def delete_image(product_id: ObjectId, image_id: str) -> ResponseReturnValue:
    product = find_whole_product(product_id)
    require_change(product)
    remove_image(product, find_image(product, image_id))
    return "", HTTPStatus.NO_CONTENT


@blueprint.put("/<ObjectId:product_id>/images/<image_id>/main")
@jwt_required()
def put_main_image(product_id: ObjectId, image_id: str) -> ResponseReturnValue:
    product = find_whole_product(product_id)
    require_change(product)
    make_main(product, find_image(product, image_id))
    return dump_product(find_product(product_id, viewer()))


def read_sources(values: Document) -> list[t.Any]:
    """Take the URLs out of the fields, add the uploaded files."""
    urls = [ExternalURL(url) for url in values.pop("images")]
    sources = [*urls, *uploaded_files("images")]
    if len(sources) > MAX_SOURCES:
        raise ValidationError({"images": [f"At most {MAX_SOURCES} in one request."]})
    return sources


def dump_product(product: Document) -> dict[str, t.Any]:
    return {"product": dump_fields(product), "images": dump_images(product)}


def dump_fields(product: Document) -> dict[str, t.Any]:
    """The answer that the schema would dump, in a tenth of the time: most of the time of a list
    goes into that."""
    return {
        "id": str(product["_id"]),
        "name": product["name"],
        "description": product["description"],
        "price": product["price"] / 100,
        "creatorId": product["creator_id"],
        "createdAt": product["created_at"].isoformat(),
    }


def dump_images(product: Document) -> list[dict[str, t.Any]]:
    return dump_media_list(product["images"])
